"""What the page and report.md fold away, say once, and call by a name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from inversion.report.build import make_report
from inversion.report.data.collect import collect
from inversion.report.data.comparable import groups_of
from inversion.report.render.page import render
from inversion.report.render.report import Report, as_markdown
from inversion.report.tables.table import ReportTable, Shown
from inversion.sweeps.spec.spec import load_spec
from inversion.tracking.connection import connect


@pytest.fixture
def small(make_study: Callable[..., Any], scores: Callable[..., Any]) -> Report:
    """Two configurations, of which the published study has scores, and no ensemble."""
    made = make_study()
    for decoder, mean in (("wavelet", 24.0), ("transposed_conv", 25.0)):
        made.add(scores(mean), decoder=decoder, weights="/w/vgg16.safetensors",
                 identity={"weights": {"vgg16": "sha256:1"}})
    return make_report(connect(), collect(connect(), made.finish()))


def test_a_small_study_folds_the_published_one_away_and_says_its_conditions_once(small: Report) -> None:
    page, markdown = render(small), as_markdown(small)
    assert small.reproduced == []
    assert "13 findings of the published study, which has another grid than these runs" in page
    assert page.count("Published figures: protocol published") == 2  # of the configurations, and of every figure
    assert markdown.index("## Beside published studies") > markdown.index("## Which differences hold up?")
    assert markdown.count("<details>") == 3


def test_the_published_grid_is_not_folded(make_study: Callable[..., Any], scores: Callable[..., Any]) -> None:
    made = make_study()
    for item in load_spec("grid.yaml").configurations:
        made.add(scores(20), encoder=item.config.encoder, decoder=item.config.decoder, fusion=item.config.fusion)
    report = make_report(connect(), collect(connect(), made.finish()))
    assert [study.key for study in report.reproduced] == ["published"]
    assert "which has another grid than these runs" not in render(report)
    assert "<details>" not in as_markdown(report)


def test_without_an_ensemble_the_best_single_models_are_not_listed_again(small: Report) -> None:
    assert "top-single" not in [table.key for table in small.tables]


def test_weights_are_called_by_their_file_with_the_digest_on_hover(small: Report) -> None:
    assert '>vgg16.safetensors</abbr>' in render(small)
    assert "weights vgg16.safetensors " in as_markdown(small)
    assert "own" not in small.boards[0].title.split()


def test_one_file_in_two_places_has_one_name() -> None:
    def document(asked: str) -> dict[str, Any]:
        return {"parameters": {"weights": asked, "lpips_weights": asked}, "data": {"name": "made"},
                "identity": {"parameters": {"protocol": "image", "image_size": 64}, "data": "d" * 64,
                             "weights": {"vgg16": "sha256:1"}, "lpips": "sha256:" + "b" * 64, "recipe": 1}}

    one, other = groups_of([document("/a/vgg16.pth"), document("/b/copy.pth")])
    assert one == other
    assert one[2].startswith("copy.pth and 1 more ")
    assert one[5] == "copy.pth bbbbbbbb"


def test_further_columns_come_last_and_what_notes_share_is_said_once() -> None:
    table = ReportTable("k", "t", [Shown("name", "{name}")], [{"name": "a-1", "gain": -1.25}], "Note.",
                        more=[Shown("gain", "{gain:+.1f} of {name}")], common="Shared.")
    assert table.markdown().splitlines()[2:] == [
        "Note. Shared.", "", "| name | gain |", "|---|---:|", "| a-1 | \N{MINUS SIGN}1.2 of a-1 |"]
    assert "Shared." not in table.markdown(with_common=False)
