"""Charts at the size of a study: what is named, where the ticks are, and what is marked."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from inversion.report.data.board import Board, make_boards
from inversion.report.data.collect import collect
from inversion.report.render import charts
from inversion.tracking.connection import connect


@pytest.fixture
def board(make_study: Callable[..., Any], scores: Callable[..., Any]) -> Board:
    """Three encoders with three decoders each; the cheapest are the best."""
    made = make_study()
    for place, encoder in enumerate(("vgg16:block1", "vgg16:block3", "resnet34:layer1")):
        for other, decoder in enumerate(("transposed_conv", "attention", "wavelet")):
            made.add(scores(25 - place - other / 4), encoder=encoder, decoder=decoder,
                     metrics={"decoder_parameters": 15000.0 * (1 + place + other / 4)})
    board, = make_boards(collect(connect(), made.finish()).runs, seed_sd=0.01)
    return board


def histories(board: Board, count: int, epochs: int) -> dict[str, list[tuple[int, float]]]:
    return {item.label: [(epoch, item.psnr.mean - 1 / epoch) for epoch in range(1, epochs + 1)]
            for item in board.configurations[:count]}


def test_few_curves_are_named_at_their_ends_without_lying_on_each_other(board: Board) -> None:
    figure = charts.curves(board, histories(board, 4, 3))
    heights = sorted(note.y for note in figure.layout.annotations)
    assert {note.text for note in figure.layout.annotations} == {item.label for item in board.configurations[:4]}
    assert min(b - a for a, b in itertools.pairwise(heights)) > 0.02
    assert figure.layout.showlegend is False
    assert figure.layout.xaxis.dtick == 1


def test_many_curves_have_a_panel_for_each_encoder_and_a_legend_of_decoders(board: Board) -> None:
    figure = charts.curves(board, histories(board, 9, 40))
    assert {note.text for note in figure.layout.annotations} == {"vgg16:block1", "vgg16:block3", "resnet34:layer1"}
    assert sorted(trace.name for trace in figure.data if trace.showlegend) == [
        "attention", "transposed_conv", "wavelet"]
    assert figure.layout.xaxis.dtick == 5


def test_points_of_few_configurations_are_named_and_ticks_are_round(board: Board) -> None:
    figure = charts.against(board, "decoder_parameters", "trained parameters")
    assert {note.text for note in figure.layout.annotations} == {item.label for item in board.configurations}
    assert list(figure.layout.xaxis.ticktext) == ["15k", "20k", "30k", "40k", "50k", "70k"]


def test_an_asterisk_marks_what_holds_up(board: Board) -> None:
    marks = charts.matrix(board).data[0].text
    assert marks[0][0] == ""
    assert marks[0][1] == "*"
