"""``inversion-report A B``: the configurations of both, paired where the test images are the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from inversion.cli.app import run_command
from inversion.cli.report import cli

DECODERS = ("transposed_conv", "attention", "wavelet")
OTHER = {"data": "e" * 64}
"""Other photographs than those of a made study, by their digest."""


@pytest.fixture
def compare(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., str]:
    """``compare("one", "two")``: what the command prints; the files are in ``tmp_path / "r"``."""

    def run(*words: str, code: int = 0) -> str:
        capsys.readouterr()
        assert run_command(cli, [*words, "--output", str(tmp_path / "r")]) == code
        streams = capsys.readouterr()
        return streams.err if code else streams.out

    return run


@pytest.fixture
def study(make_study: Callable[..., Any], scores: Callable[..., Any]) -> Callable[..., Any]:
    """``study("one", 25, seeds=2)``: three decoders, half a dB apart."""

    def make(name: str, mean: float, seeds: int = 1, decoders: tuple[str, ...] = DECODERS, **kept: Any) -> Any:
        made = make_study(name)
        for seed in range(seeds):
            for number, decoder in enumerate(decoders):
                made.add(scores(mean - number / 2, seed=seed), decoder=decoder, seed=seed, **kept)
        made.finish()
        return made

    return make


def table(tmp_path: Path, name: str = "compared-2") -> pd.DataFrame:
    left = pd.read_csv(tmp_path / "r" / "tables" / f"{name}.csv")
    assert list(left.columns) == list(pd.read_parquet(tmp_path / "r" / "tables" / f"{name}.parquet").columns)
    return left


def test_configurations_of_both_are_paired_by_image(
    compare: Callable[..., str], study: Callable[..., Any], tmp_path: Path
) -> None:
    study("short", 25, seeds=3, epochs=30)
    study("long", 26, seeds=3, epochs=60)
    said = compare("short", "long")
    assert "long differs from short in epochs (60 instead of 30)." in said
    assert "scored on the same 12 test images: long is above short in 3 (3 hold up) and below in 0" in said
    assert "Both order these configurations alike" in said
    rows = table(tmp_path)
    assert rows["configuration"].tolist() == [f"vgg16:block1+{decoder}" for decoder in DECODERS]
    assert rows["difference"].tolist() == pytest.approx([1.0, 1.0, 1.0])
    assert rows["paired"].all()
    assert set(rows["holds"]) == {"yes"}
    assert ((rows["low"] > 0.9) & (rows["high"] < 1.1)).all()  # the images vary by 2 dB, and are the same
    page, text = ((tmp_path / "r" / name).read_text() for name in ("index.html", "report.md"))
    assert "Studies short and long" in page
    assert "long minus short, paired by test image" in page
    assert "| vgg16:block1+wavelet | 24.00 ± " in text


@pytest.mark.parametrize(("pictures", "paired"), [(True, True), (False, False)])
def test_other_training_images_leave_the_test_images_the_same_if_their_pictures_are(
    compare: Callable[..., str], study: Callable[..., Any], tmp_path: Path, pictures: bool, paired: bool
) -> None:
    study("one", 25, pictures=pictures)
    study("two", 26, pictures=pictures, identity=OTHER)
    said = compare("one", "two")
    rows = table(tmp_path)
    assert rows["paired"].all() == paired
    assert ("not known to be the same (12 and 12)" in said) != paired
    assert "two differs from one in data (made eeeeeeee instead of made dddddddd)" in said
    widths = rows["high"] - rows["low"]
    assert (widths.max() < 0.2) if paired else (widths.min() > 2)  # Welch: the images count in full


@pytest.mark.parametrize(("parameter", "why"), [
    ({"protocol": "published"}, "decoders have other targets"), ({"image_size": 96}, "the scores are of other pixels")])
def test_scores_of_another_scale_are_not_subtracted(
    compare: Callable[..., str], study: Callable[..., Any], tmp_path: Path, parameter: dict[str, Any], why: str
) -> None:
    study("one", 25)
    study("two", 15, **parameter)
    said = compare("one", "two")
    assert "3 configurations are in both. Their scores are not subtracted" in said
    assert why in said
    rows = table(tmp_path)
    assert "difference" not in rows
    assert rows["rank_1"].tolist() == rows["rank_2"].tolist() == [1, 2, 3]
    assert " dB on average" not in said


def test_a_value_that_both_studies_have_must_be_equal(
    compare: Callable[..., str], make_study: Callable[..., Any], study: Callable[..., Any], scores: Callable[..., Any],
    tmp_path: Path
) -> None:
    study("one", 25, epochs=30)
    made = make_study("two")
    made.add(scores(24), decoder="wavelet", epochs=30)
    made.add(scores(29), decoder="wavelet", epochs=60)
    made.finish()
    said = compare("one", "two")
    assert "No parameter distinguishes two from one." in said
    assert "Without a counterpart: 2 of one and 1 of two." in said
    assert table(tmp_path)["difference"].tolist() == [pytest.approx(0.0)]
    listed = table(tmp_path, "distinctions").set_index("parameter")
    assert list(map(str, listed.loc["epochs", ["values_1", "values_2", "role"]])) == ["30", "30, 60", "must be equal"]


def test_one_variant_is_compared_with_several_of_the_other_study(
    compare: Callable[..., str], make_study: Callable[..., Any], scores: Callable[..., Any], tmp_path: Path
) -> None:
    for name, rates in (("one", [1e-3]), ("two", [1e-4, 1e-5]), ("three", [1e-6, 1e-7])):
        made = make_study(name)
        for rate in rates:
            made.add(scores(25 + rate), lr=rate)
        made.finish()
    compare("one", "two")
    assert table(tmp_path)["configuration"].tolist() == [
        "vgg16:block1+transposed_conv lr=0.0001", "vgg16:block1+transposed_conv lr=1e-05"]
    said = compare("two", "three")
    assert "Both studies have several of vgg16:block1+transposed_conv that differ in nothing else" in said


def test_nothing_in_common_and_nothing_finished_are_said(
    compare: Callable[..., str], study: Callable[..., Any], make_study: Callable[..., Any]
) -> None:
    study("one", 25, decoders=("wavelet",))
    study("two", 25, decoders=("attention",))
    make_study("empty").finish()
    said = compare("one", "two", "empty")
    assert "No configuration occurs in both one and two." in said
    assert "No run of empty has scores yet: it cannot be compared with one." in said


def test_every_other_study_is_compared_with_the_first(
    compare: Callable[..., str], study: Callable[..., Any], tmp_path: Path
) -> None:
    for number, name in enumerate(("a|b", "<i>", "third")):
        study(name, 25 + number, epochs=10 + number)
    compare("a|b", "<i>", "third")
    assert [table(tmp_path, f"compared-{number}")["difference"].mean() for number in (2, 3)] == pytest.approx([1, 2])
    text = (tmp_path / "r" / "report.md").read_text()
    header = next(line for line in text.split("\n") if line.startswith("| rank | a"))
    assert header == r"| rank | a\|b | PSNR (dB) | \<i> | PSNR (dB) | third | PSNR (dB) |"
    assert "<i>" not in (tmp_path / "r" / "index.html").read_text().partition("<script>")[0]


@pytest.mark.parametrize(("words", "message"), [
    (["one", "one"], "error: study one is given twice"),
    (["one", "two", "--memory-budget", "900"], "error: --memory-budget is for the report of one study"),
    (["one", "tow"], "error: experiment inversion in "),
])
def test_a_wrong_request_is_one_line(
    compare: Callable[..., str], make_study: Callable[..., Any], tmp_path: Path, words: list[str], message: str
) -> None:
    for name in ("one", "two"):
        make_study(name).finish()
    error = compare(*words, code=2)
    assert error.startswith(message)
    assert error.count("\n") == 1
    assert not (tmp_path / "r").exists()
