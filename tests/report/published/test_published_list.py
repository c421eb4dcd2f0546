"""Every published figure stands in one table, beside ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from inversion.report.data.board import make_boards
from inversion.report.data.collect import collect
from inversion.report.published.feature_inversion import figures, study
from inversion.report.tables.table import ReportTable
from inversion.tracking.connection import connect


@pytest.fixture
def table(make_study: Callable[..., Any], scores: Callable[..., Any]) -> ReportTable:
    """The figures beside those of a study with the winner, the baseline, a deep layer and an ensemble."""
    made = make_study()
    for encoder, decoder, mean in (("vgg16:block1", "transposed_conv", 25.0), ("vgg16:block3", "transposed_conv", 20.0),
                                   ("resnet34:layer1", "attention", 21.0), ("ensemble", "transposed_conv", 25.5)):
        made.add(scores(mean), encoder=encoder, decoder=decoder, metrics={"eval_seconds": 30.0})
    made.add(None, status="FAILED", decoder="wavelet", tags={"inversion.failure": "oom"})
    data = collect(connect(), made.finish())
    listed = study().figures
    assert listed is not None
    return listed(data, make_boards(data.runs, seed_sd=0.01)[0])


def find(table: ReportTable, section: str, *words: str) -> dict[str, Any]:
    """The row of a section whose text has these words."""
    row, = (row for row in table.rows if row["section"] == section and all(word in row["what"] for word in words))
    return dict(row)


def test_no_published_figure_is_left_out(table: ReportTable) -> None:
    paper = figures()
    told = [(row["section"], row["published"]) for row in table.rows]
    for one in paper.tables:
        for row in one.rows:
            for name, value in row.model_dump(exclude={"configuration"}, exclude_none=True).items():
                assert (one.section, value) in told, name
    assert {(item.section, item.difference) for item in paper.comparisons} <= set(told)
    for item in paper.improvements:
        assert {(item.section, value) for value in (item.initial, item.final, item.percent)} <= set(told)
    for advice in paper.recommendations:
        values = {advice.psnr, advice.ssim, advice.memory_gb, advice.eval_minutes} - {None}
        assert {(advice.section, value) for value in values} <= set(told)
    assert paper.summary is not None
    assert {("9", value) for name, value in paper.summary.model_dump().items() if name != "section"} <= set(told)
    assert {(item.section, item.value) for item in paper.figures} <= set(told)


def test_ours_stands_beside_what_was_published(table: ReportTable) -> None:
    for section, words, published, here in (
        ("9", ("best PSNR of a single",), 17.43, 25.0), ("9", ("out of memory",), 3, 1),
        ("9", ("range",), 4.83, 5.5), ("6.3", ("PSNR, change",), 13.7, 100 * (25 / 21 - 1)),
        ("8", ("best quality", "PSNR"), 17.43, 25.0), ("8", ("best quality", "evaluation"), 0.85, 0.5),
        ("5.1", ("vgg16:block3", "degradation"), -27.7, -20.0), ("4.6", ("weighted", "gain over"), 0.22, 0.5),
        ("1", ("image size",), 224, 64), ("2.1", ("resolution of vgg16:block1",), 112, 32),
    ):
        row = find(table, section, *words)
        assert (row["published"], row["here"]) == (published, pytest.approx(here)), words


def test_what_has_no_counterpart_says_why(table: ReportTable) -> None:
    text = table.markdown()
    row = find(table, "5.3", "vgg16:block1+transposed_conv minus vgg16:block1+wavelet: significant")
    assert (row["told"], row["why"]) == ("no", "not run")
    row = find(table, "5.3", "minus vgg16:block3+transposed_conv: significant")
    assert (row["told"], row["why"]) == ("yes", "holds up")
    assert find(table, "8", "best quality", "memory")["why"] == "not measured"  # on a CPU it is not the run's own
    assert find(table, "4.6", "vgg16:block1+transposed_conv", "cost per dB")["why"] == "not defined"
    assert "| not run |" in text
    assert "| no counterpart |" in text


def test_the_first_baseline_is_the_earlier_value(table: ReportTable) -> None:
    psnr = [row for row in table.rows if row["section"] == "3.2" and row["what"].endswith(": PSNR")]
    assert [(row["published"], row["here"]) for row in psnr] == [(15.33, pytest.approx(21.0))]


def test_protocol_and_data_are_named(table: ReportTable) -> None:
    assert "protocol published, DIV2K" in table.note
    assert "here: protocol image, data made dddddddd" in table.note
    assert {(row["published_protocol"], row["here_protocol"]) for row in table.rows} == {("published", "image")}
