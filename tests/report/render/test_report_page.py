"""The report in a real browser: it opens without errors, sorts, filters, changes the image, and fits a phone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from inversion.cli.app import run_command
from inversion.cli.report import cli

pytestmark = pytest.mark.acceptance


@pytest.fixture(scope="module")
def report(
    tmp_path_factory: pytest.TempPathFactory, enter_workplace: Callable[[Path, pytest.MonkeyPatch], None],
    make_study_in: Callable[..., Any], scores: Callable[..., Any],
) -> Path:
    """The page of a made study."""
    workplace, folder = tmp_path_factory.mktemp("workplace"), tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        enter_workplace(workplace, patch)
        fill(make_study_in(workplace, folder), scores)
        assert run_command(cli, ["made", "--output", str(folder)]) == 0
    return folder / "index.html"


def fill(made: Any, scores: Callable[..., Any]) -> None:
    """Sixteen configurations with pictures; the best is known."""
    for encoder, mean in (("vgg16:block1", 25), ("vgg16:block3", 20), ("resnet34:layer1", 22), ("ensemble", 25.5)):
        for decoder, gain in (("transposed_conv", 0.0), ("attention", -1.0), ("wavelet", 0.5), ("frequency_aware", -2)):
            made.add(scores(mean + gain), encoder=encoder, decoder=decoder, pictures=True)
    made.finish()


@pytest.fixture
def opened(report: Path, page: Any) -> Any:
    """The page in a browser, with a list of errors in its console and of requests to the network."""
    page.errors = []
    page.on("console", lambda message: page.errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on("request", lambda request: page.errors.append(request.url) if request.url.startswith("http") else None)
    page.goto(f"file://{report}")
    return page


def column(page: Any, table: str, number: int) -> list[str]:
    """The texts of a column, from above."""
    texts: list[str] = page.locator(f"#table-{table} tbody tr:visible td:nth-child({number})").all_inner_texts()
    return texts


def test_it_opens_without_an_error_or_a_request_and_every_picture_loads(opened: Any) -> None:
    opened.wait_for_function("document.querySelectorAll('.chart .main-svg').length > 0")
    sizes = opened.evaluate("[...document.images].map(image => image.naturalWidth)")
    assert len(sizes) >= 5 * 3
    assert all(width == 32 for width in sizes)
    for chart in opened.locator(".chart").all():
        chart.scroll_into_view_if_needed()
        chart.locator(".main-svg").first.wait_for()
    assert opened.errors == []


def test_the_answer_stands_at_the_top(opened: Any) -> None:
    text = opened.locator("#answer").inner_text()
    assert "ensemble+weighted+wavelet is first with 26.00 dB" in text
    assert opened.locator("#answer").bounding_box()["y"] < 300


def test_a_click_on_a_heading_sorts_by_number_and_the_next_one_backwards(opened: Any) -> None:
    heading = opened.locator("#table-leaderboard th button", has_text="PSNR (dB)")
    heading.click()
    ascending = [float(text.split()[0]) for text in column(opened, "leaderboard", 3)]
    assert ascending == sorted(ascending)
    assert ascending[0] < ascending[-1]
    heading.click()
    assert [float(text.split()[0]) for text in column(opened, "leaderboard", 3)] == ascending[::-1]


def test_words_filter_the_rows(opened: Any) -> None:
    opened.locator("input[data-table=table-leaderboard]").fill("block3 wavelet")
    assert column(opened, "leaderboard", 2) == ["vgg16:block3+wavelet"]


def test_another_image_is_a_click_away(opened: Any) -> None:
    first = opened.locator(".scene:visible img").first.get_attribute("alt")
    opened.get_by_role("button", name="worst", exact=True).click()
    assert opened.locator(".scene:visible").count() == 1
    assert opened.locator(".scene:visible img").first.get_attribute("alt") != first


@pytest.mark.parametrize("width", [390, 1400])
def test_only_tables_and_strips_scroll_sideways(width: int, opened: Any) -> None:
    opened.set_viewport_size({"width": width, "height": 900})
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    assert opened.locator("#answer p").first.bounding_box()["width"] <= width


def test_it_is_dark_where_that_is_asked_for(opened: Any) -> None:
    def lightness(what: str) -> int:
        colour = opened.evaluate(f"getComputedStyle(document.body).{what}")
        return sum(int(part) for part in colour.removeprefix("rgb(").rstrip(")").split(","))

    assert lightness("backgroundColor") > 600 > lightness("color")
    opened.emulate_media(color_scheme="dark")
    assert lightness("backgroundColor") < 200 < lightness("color")
