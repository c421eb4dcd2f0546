"""Capacity apart from design, and figures of a paper beside runs of another design."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from inversion.report.data.board import Board, make_boards
from inversion.report.data.collect import collect
from inversion.report.published.feature_inversion import study as paper
from inversion.report.render import charts
from inversion.report.tables import capacity, rankings
from inversion.report.tables.findings import BoardEvidence
from inversion.report.tables.published import published_notes, published_table
from inversion.tracking.connection import connect

WAVELET = "vgg16:block1+wavelet"


def board_of(made: Any) -> Board:
    board, = make_boards(collect(connect(), made.finish()).runs, 0.01)
    return board


def sized(parameters: float, gflops: float, **losses: float) -> dict[str, float]:
    return {"decoder_parameters": parameters, "gflops_per_image": gflops,
            **{f"best/{name}_loss": value for name, value in losses.items()}}


@pytest.fixture
def sizes(make_study: Callable[..., Any], scores: Callable[..., Any]) -> Board:
    """Two families at one layer, each in two sizes, and one decoder at another layer."""
    made = make_study()
    for decoder, width, mean, metrics in (
        ("wavelet", 32, 24.0, sized(1000, 2.0, train=0.10, val=0.11)), ("wavelet", 64, 25.0, sized(4000, 8.0)),
        ("attention", 32, 23.0, sized(1200, 3.0, train=0.10, val=0.20)), ("attention", 64, 23.5, sized(6000, 9.0)),
    ):
        made.add(scores(mean), decoder=decoder, decoder_options=f"width={width}", metrics=metrics)
    made.add(scores(26.0), encoder="vgg16:block2", decoder="attention", metrics=sized(1000, 2.0))
    return board_of(made)


def test_decoders_of_equal_size_at_one_layer_are_compared_and_no_others(sizes: Board) -> None:
    rows = capacity.equal_size(sizes).rows
    assert [(row["size"], row["a"], row["b"]) for row in rows] == [
        ("parameters", f"{WAVELET} decoder_options=width=32", "vgg16:block1+attention decoder_options=width=32"),
        ("GFLOPs", f"{WAVELET} decoder_options=width=64", "vgg16:block1+attention decoder_options=width=64")]
    assert [row["difference"] for row in rows] == [pytest.approx(1.0), pytest.approx(1.5)]


def test_the_gap_between_training_and_validation_is_told_where_it_is_known(sizes: Board) -> None:
    table = capacity.generalisation(sizes)
    assert [(row["configuration"].partition("+")[2].partition(" ")[0], row["gap"], row["gap_percent"])
            for row in table.rows] == [("wavelet", pytest.approx(0.01), pytest.approx(10.0)),
                                       ("attention", pytest.approx(0.10), pytest.approx(100.0))]
    assert "+0.1000 (+100 %)" in table.markdown()


def test_a_line_joins_the_sizes_of_one_decoder_at_one_layer(sizes: Board) -> None:
    lines = [trace for trace in charts.against(sizes, "decoder_parameters", "parameters").data if trace.mode == "lines"]
    assert [(list(line.x), list(line.y)) for line in lines] == [
        ([1200, 6000], [pytest.approx(23.0), pytest.approx(23.5)]),
        ([1000, 4000], [pytest.approx(24.0), pytest.approx(25.0)])]


@pytest.fixture
def designs(make_study: Callable[..., Any], scores: Callable[..., Any]) -> Board:
    """The default wavelet is better than the published one by every score; attention has the default design only."""
    made = make_study()
    for options, mean in (("auto", 26.0), ("design=published", 25.0)):
        made.add(scores(mean), decoder="wavelet", decoder_options=options, metrics={"best/val_psnr": mean})
    made.add(scores(24.0), decoder="attention", metrics={"best/val_psnr": 24.0})
    made.add(scores(23.0), decoder="transposed_conv", metrics={"best/val_psnr": 23.0})
    return board_of(made)


def test_the_papers_own_design_stands_for_its_configurations(designs: Board) -> None:
    assert designs.chosen[WAVELET].label == f"{WAVELET} decoder_options=auto"
    view = paper().view(designs)
    assert view.chosen[WAVELET].label == f"{WAVELET} decoder_options=design=published"
    assert BoardEvidence(view).score(WAVELET) == pytest.approx(25.0)
    row, = (row for row in published_table(paper(), designs).rows if row["configuration"] == WAVELET)
    assert (row["psnr"], row["published_same_design"]) == (pytest.approx(25.0), True)


def test_a_figure_of_another_design_is_marked_in_every_table(designs: Board) -> None:
    table = rankings.leaderboard(designs, [paper()])
    marked = {row["configuration"]: row.get("published_same_design") for row in table.rows}
    assert marked == {f"{WAVELET} decoder_options=auto": False, f"{WAVELET} decoder_options=design=published": True,
                      "vgg16:block1+attention": None, "vgg16:block1+transposed_conv": True}
    assert table.markdown().count("17.29 ± 1.64 †") == 1
    assert table.markdown().count("17.29 ± 1.64 |") == 1
    assert {column.about for column in table.more if "published" in column.title} == {"published"}
    assert "†: the figure belongs to another decoder or fusion" in published_table(paper(), designs).note


def test_the_section_of_the_findings_says_which_designs_they_are_judged_on(
        make_study: Callable[..., Any], scores: Callable[..., Any]) -> None:
    made = make_study()
    made.add(scores(26.0), decoder="wavelet")
    made.add(scores(25.0), decoder="transposed_conv")
    board = board_of(made)
    assert ("Judged on decoders or fusions of this project, which differ from the paper's of the same name "
            f"(design=published): {WAVELET}.") in paper().about_findings(board)
    made = make_study("simple")
    made.add(scores(25.0), decoder="transposed_conv")
    simple = board_of(made)
    assert "Judged on" not in paper().about_findings(simple)
    assert "†" not in published_notes([paper()], simple)
