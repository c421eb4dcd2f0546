"""Which runs are put together, and what stands in the tables, on studies whose answers are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from inversion.config.resolve import RECIPE
from inversion.errors import UnknownNameError
from inversion.report.data.board import Board, make_boards
from inversion.report.data.collect import collect
from inversion.report.data.study import StudyData
from inversion.report.published.feature_inversion import study as paper
from inversion.report.render import charts
from inversion.report.tables import costs, questions, rankings
from inversion.report.tables.overview import failures
from inversion.report.tables.references import references
from inversion.tracking.connection import connect

IMAGES = [f"test/{number}.png" for number in range(12)]


def read(made: Any, seed_sd: float | None = 0.01) -> tuple[StudyData, list[Board]]:
    data = collect(connect(), made.finish())
    return data, make_boards(data.runs, seed_sd)


def test_the_ranking_is_by_mean_psnr_with_the_deviation_of_ddof_0(make_study: Callable[..., Any]) -> None:
    made = make_study()
    made.add([20.0] * 6 + [22.0] * 6, decoder="wavelet")
    made.add([30.0] * 12, decoder="attention")
    _, (board,) = read(made, seed_sd=None)
    assert [item.label for item in board.configurations] == ["vgg16:block1+attention", "vgg16:block1+wavelet"]
    first, second = rankings.leaderboard(board).rows
    assert (first["rank"], first["psnr"], first["psnr_std"]) == (1, 30.0, 0.0)
    assert (first["psnr_low"], first["psnr_high"]) == (30.0, 30.0)
    assert (second["psnr"], second["psnr_std"]) == (21.0, 1.0)
    assert second["psnr_low"] < 21 < second["psnr_high"]
    assert first["lpips"] is None
    assert "| off |" in rankings.leaderboard(board).markdown()


@pytest.mark.parametrize("other", [
    {"protocol": "published"}, {"image_size": 96}, {"weights": "imagenet"}, {"test_limit": 12}, {"weights": "random:7"},
    {"identity": {"data": "e" * 64}}, {"identity": {"lpips": "sha256:" + "a" * 64}},
    {"identity": {"recipe": RECIPE + 1}},
    {"identity": {"weights": {"vgg16": "random:0:other"}}},
    {"images": [f"other/{number}.png" for number in range(12)], "lr": 0.01}])
def test_what_cannot_be_compared_is_not_ranked_together(
    other: dict[str, Any], make_study: Callable[..., Any], scores: Callable[..., Any]
) -> None:
    made = make_study()
    made.add(scores(20), decoder="wavelet")
    made.add(scores(21), decoder="attention")
    made.add(scores(40), decoder="wavelet", **other)
    _, boards = read(made)
    assert [[item.psnr.mean.__round__() for item in board.configurations] for board in boards] == [[21, 20], [40]]


def test_seeds_are_one_configuration_and_other_parameters_are_not(
    make_study: Callable[..., Any], scores: Callable[..., Any]
) -> None:
    made = make_study()
    for seed, mean in ((0, 20.0), (1, 22.0)):
        made.add(scores(mean), seed=seed)
    made.add(scores(25), lr=0.01)
    _, (board,) = read(made)
    best, other = board.configurations
    assert best.label == "vgg16:block1+transposed_conv lr=0.01"
    assert (other.label, list(other.runs)) == ("vgg16:block1+transposed_conv lr=0.0001", [0, 1])
    assert other.psnr.mean == pytest.approx(21.0)
    assert other.psnr.spread == pytest.approx(np.std([20, 22], ddof=1))
    table = rankings.leaderboard(board)
    assert "seeds" in [column.title for column in table.shown]
    assert "between seeds (dB)" in [column.title for column in table.more]
    spread = {row["configuration"]: row["seed_spread"] for row in rankings.leaderboard(board).rows}
    assert spread == {best.label: None, other.label: pytest.approx(np.std([20, 22], ddof=1))}


def test_depth_is_told_in_percent_beside_the_shallowest_layer(
    make_study: Callable[..., Any], scores: Callable[..., Any]
) -> None:
    made = make_study()
    made.add(scores(20), encoder="vgg16:block1")
    made.add(scores(15), encoder="vgg16:block3")
    made.add(scores(10), encoder="vgg16:block4")
    made.add(scores(19), encoder="resnet34:layer1")
    _, (board,) = read(made)
    rows = questions.depth(board).rows
    assert [(row["encoder"], row["shallow"]) for row in rows] == [
        ("vgg16:block3", "vgg16:block1+transposed_conv"), ("vgg16:block4", "vgg16:block1+transposed_conv")]
    assert [row["degradation"] for row in rows] == pytest.approx([-25, -50])
    assert [row["holds"] for row in rows] == ["yes", "yes"]


def test_decoders_are_set_beside_the_best_of_their_layer(
    make_study: Callable[..., Any], scores: Callable[..., Any]
) -> None:
    made = make_study()
    made.add(scores(20), decoder="wavelet")
    made.add(scores(18), decoder="attention")
    made.add(scores(20), decoder="transposed_conv")
    _, (board,) = read(made)
    rows = {row["decoder"]: row for row in questions.decoders(board).rows}
    assert rows["attention"]["difference"] == pytest.approx(-2, abs=1e-6)
    assert rows["attention"]["holds"] == "yes"
    ties = {rows[name].get("holds") for name in ("wavelet", "transposed_conv")}
    assert ties == {None, "no"}  # one of them is the best; equal scores do not hold up


def test_a_decibel_has_a_cost_only_where_one_is_gained(
    make_study: Callable[..., Any], scores: Callable[..., Any]
) -> None:
    made = make_study()
    made.add(scores(20), encoder="vgg16:block1", metrics={"eval_seconds": 2.0})
    made.add(scores(22), encoder="ensemble", metrics={"eval_seconds": 8.0})
    made.add(scores(19), encoder="resnet34:layer1", metrics={"eval_seconds": 1.0})
    _, (board,) = read(made)
    table = costs.costs(board)
    rows = {row["configuration"]: row for row in table.rows}
    ensemble = rows["ensemble+weighted+transposed_conv"]
    assert ensemble["best_gain"] == pytest.approx(2)
    assert ensemble["best_eval_seconds"] == pytest.approx((8 - 2) / 2)
    assert rows["resnet34:layer1+transposed_conv"]["reference_eval_seconds"] is None
    assert (ensemble["best_holds"], rows["vgg16:block1+transposed_conv"]["best_holds"]) == ("yes", None)
    text = {line.split(" | ")[0].strip("| "): line for line in table.markdown().splitlines()}
    assert "| none |" in text["resnet34:layer1+transposed_conv"]
    assert "| (reference) |" in text["vgg16:block1+transposed_conv"]
    assert "none" not in text["vgg16:block1+transposed_conv"]
    assert "| shared |" in text["ensemble+weighted+transposed_conv"]


def test_a_cost_without_its_reference_is_not_called_none(
    make_study: Callable[..., Any], scores: Callable[..., Any]
) -> None:
    made = make_study()
    made.add(scores(19), encoder="resnet34:layer1")
    _, (board,) = read(made)
    assert "| not run |" in costs.costs(board, [paper()]).markdown()


def test_inverting_each_image_alone_is_a_reference_and_is_not_ranked(
    make_study: Callable[..., Any], scores: Callable[..., Any]
) -> None:
    made = make_study()
    made.add(scores(25))
    made.add(scores(20), decoder="wavelet")
    made.add(scores(40)[:8], seed=1, images=IMAGES[:8], tags={"inversion.kind": "optimize"},
             identity={"data": "e" * 64})
    made.add(scores(40), seed=2, weights="random:7", tags={"inversion.kind": "optimize"})
    data, (board,) = read(made)
    assert [item.psnr.mean.__round__() for item in board.configurations] == [25, 20]
    row, other = sorted(references(connect(), data, [board]).rows, key=lambda row: str(row["weights"]))
    assert (row["images"], row["image_size"], row["precision"]) == (8, 64, "fp32")
    assert (row["beside"], row["beside_precision"], row["common"]) == ("vgg16:block1+transposed_conv", "fp32", 8)
    assert row["difference"] == pytest.approx(15, abs=0.2)
    assert row["low"] < row["difference"] < row["high"]
    assert row["holds"] == "yes"
    assert (other["weights"], other.get("beside")) == ("random:7", None)  # other features are nothing to compare with


def test_an_inversion_of_other_photographs_of_the_same_names_is_not_compared(
    make_study: Callable[..., Any], scores: Callable[..., Any]
) -> None:
    made = make_study()
    made.add(scores(25), pictures=True)
    for seed, images in ((1, IMAGES), (2, IMAGES[4:])):  # the second one's first picture is that of another name
        made.add(scores(40)[:len(images)], seed=seed, images=images, pictures=True,
                 tags={"inversion.kind": "optimize"}, identity={"data": "e" * 64})
    data, boards = read(made)
    assert {row["images"]: row.get("common") for row in references(connect(), data, boards).rows} == {12: 12, 8: None}


def test_a_score_that_is_not_finite_is_not_ranked_and_told(
    make_study: Callable[..., Any], scores: Callable[..., Any]
) -> None:
    made = make_study()
    made.add(scores(25), decoder="wavelet")
    made.add([float("nan"), *scores(40)[1:]], decoder="attention")
    data, (board,) = read(made)
    assert [item.label for item in board.configurations] == ["vgg16:block1+wavelet"]
    row, = failures(data).rows
    assert (row["run"], row["status"]) == ("vgg16:block1+attention", "FINISHED")
    assert "not finite" in row["message"]


def test_a_study_that_is_not_there_is_told_with_the_nearest(make_study: Callable[..., Any]) -> None:
    make_study("ablation").finish()
    with pytest.raises(UnknownNameError, match="Did you mean 'ablation'"):
        collect(connect(), "ablatoin")


def test_seeds_of_both_sides_stand_in_tables_of_differences_where_there_are_several(
    make_study: Callable[..., Any], scores: Callable[..., Any]
) -> None:
    made = make_study()
    for seed in (0, 1):
        made.add(scores(25, seed=seed), seed=seed)
    made.add(scores(24), decoder="wavelet")
    _, (board,) = read(made)
    _, other = questions.decoders(board).rows
    assert (other["seeds_a"], other["seeds_b"]) == (1, 2)
    assert "| 1 and 2 |" in questions.decoders(board).markdown()


def test_a_chart_that_leaves_configurations_out_says_so(
    make_study: Callable[..., Any], scores: Callable[..., Any]
) -> None:
    made = make_study()
    for number in range(charts.MATRIX + 1):
        made.add(scores(20 + number / 10), lr=1e-4 * (number + 1))
        if number == charts.MATRIX - 1:
            _, (board,) = read(made)
            assert charts.captions(board) == {}
    _, (board,) = read(made)
    assert charts.captions(board) == {"differences": "The best 24 of 25 configurations."}
