"""Floors and ceilings in a report, and whether other metrics than PSNR agree."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from inversion.report.build import make_report
from inversion.report.data.board import Board, make_boards
from inversion.report.data.collect import collect
from inversion.report.render import charts
from inversion.report.stats.comparisons import compare_pools
from inversion.report.tables.floors import beside_thumbnails, floors
from inversion.report.tables.metrics import metrics
from inversion.report.tables.table import ReportTable
from inversion.tracking.connection import connect
from tests.report.conftest import MadeStudy

FLOORS = {"floor/training_colour_psnr": 9.0, "floor/mean_colour_psnr": 12.0, "floor/bicubic_psnr": 21.0}
NONE = ReportTable("references", "", [], [])


@pytest.fixture
def board(make_study: Callable[..., MadeStudy], scores: Callable[..., Any]) -> Board:
    """Two layers; at the first also the linear decoder, which the others beat by 2 dB and more."""
    made = make_study()
    for seed in range(2):
        made.add(scores(27, seed=seed), encoder="vgg16:block1", decoder="wavelet", seed=seed, metrics=FLOORS)
        made.add(scores(26, seed=seed), encoder="vgg16:block1", decoder="attention", seed=seed, metrics=FLOORS)
        made.add(scores(24, seed=seed), encoder="vgg16:block1", decoder="linear", seed=seed, metrics=FLOORS)
    made.add(scores(22), encoder="vgg16:block3", decoder="wavelet", metrics=FLOORS | {"floor/bicubic_psnr": 18.5})
    board, = make_boards(collect(connect(), made.finish()).runs)
    return board


def with_thumbnails(made: MadeStudy, scores: Callable[..., Any], thumbnails: dict[str, float], seeds: int) -> Board:
    """A decoder of 22 dB at each of these layers, and bicubic thumbnails of a mean PSNR."""
    for layer, mean in thumbnails.items():
        for seed in range(seeds):
            made.add(scores(22, seed=seed), encoder=layer, decoder="wavelet", seed=seed,
                     floors={"bicubic": scores(mean, 0.1), "mean_colour": scores(12, 0.1)})
    board, = make_boards(collect(connect(), made.finish()).runs)
    return board


def test_decoders_are_compared_with_thumbnails_image_by_image(make_study: Callable[..., MadeStudy],
                                                              scores: Callable[..., Any]) -> None:
    means = {"vgg16:block1": 20.0, "vgg16:block2": 21.98, "vgg16:block3": 25.0}
    table = floors(with_thumbnails(make_study(), scores, means, seeds=3), NONE)
    found = {row["features"]: (round(row["over_bicubic"], 2), row["over_bicubic_holds"]) for row in table.rows}
    assert found == {"vgg16:block1": (2, "yes"), "vgg16:block2": (0.02, "no"), "vgg16:block3": (-3, "yes")}
    assert table.rows[0]["over_mean_colour_holds"] == "yes"
    assert beside_thumbnails(table.rows) == [
        "Beside a bicubic thumbnail with as many pixels as the features have locations, the best decoder is better for "
        "vgg16:block1, worse for vgg16:block3, not known to be better or worse for vgg16:block2."]


def test_differences_from_floors_are_one_family(make_study: Callable[..., MadeStudy], scores: Callable[..., Any],
                                                ) -> None:
    board = with_thumbnails(make_study(), scores, {"vgg16:block1": 21.9, "vgg16:block2": 21.9}, seeds=3)
    assert {found.family for found in board.over_floors.values()} == {4}
    noise, winner = board.noise, board.winner
    floor = winner.floor("bicubic")
    assert floor is not None
    assert noise is not None
    alone = compare_pools(winner.psnr, floor, noise)
    assert board.over_floors[winner.label, "bicubic"].p > alone.p
    variance = alone.estimate.error**2 - compare_pools(winner.psnr, floor).estimate.error**2
    assert variance == pytest.approx(noise.variance_of_mean(winner.psnr))  # nothing is trained for a floor


def test_one_training_says_nothing_of_decoders_and_floors(make_study: Callable[..., MadeStudy],
                                                          scores: Callable[..., Any]) -> None:
    table = floors(with_thumbnails(make_study(), scores, {"vgg16:block1": 20.0}, seeds=1), NONE)
    assert table.rows[0]["over_bicubic_holds"] == "one seed"
    assert "not known to be better or worse for vgg16:block1" in beside_thumbnails(table.rows)[0]


def optimised(board: Board, steps: int, psnr: float, common: int = 12) -> dict[str, Any]:
    """A row of the table of references, as compared with the wavelet decoder of the first layer."""
    return {"beside": "vgg16:block1+wavelet", "board": board.title, "common": common, "steps": steps, "psnr": psnr}


def test_each_cut_has_its_floors_its_linear_decoder_and_its_best_one(board: Board) -> None:
    first, other = floors(board, NONE).rows
    assert (first["features"], first["training_colour"], first["mean_colour"], first["bicubic"]) == (
        "vgg16:block1", 9.0, 12.0, 21.0)
    assert (first["linear"], first["best"]) == (pytest.approx(24), "vgg16:block1+wavelet")
    assert (first["over_bicubic"], first["over_linear"]) == (pytest.approx(6), pytest.approx(3))
    assert first["over_linear_holds"] == "yes"
    assert first["over_bicubic_holds"] == "not tested"  # as in runs of earlier versions, which logged the mean alone
    assert (other["features"], other["linear"], other["over_bicubic"]) == ("vgg16:block3", None, pytest.approx(3.5))
    assert "over_linear" not in other


def test_optimised_images_have_a_column_for_each_number_of_steps(board: Board) -> None:
    rows = [optimised(board, 200, 24.0), optimised(board, 1000, 28.0), optimised(board, 1000, 27.5)]
    table = floors(board, ReportTable("references", "", [], rows))
    assert (table.rows[0]["optimised_200"], table.rows[0]["optimised_1000"]) == (24.0, 28.0)
    assert [column.title for column in table.shown[-2:]] == ["optimised, 200 steps", "optimised, 1,000 steps"]
    assert "28.00" in table.markdown()


@pytest.mark.parametrize("change", [{"common": 5}, {"board": "another"}, {"beside": "none"}])
def test_images_found_for_other_or_fewer_photographs_are_left_out(board: Board, change: dict[str, Any]) -> None:
    table = floors(board, ReportTable("references", "", [], [optimised(board, 200, 30.0) | change]))
    assert not any(row["optimised"] for row in table.rows)


def test_the_chart_has_every_mark_of_the_table(board: Board) -> None:
    table = floors(board, ReportTable("references", "", [], [optimised(board, 200, 24.0)]))
    figure = charts.floors(board, table)
    drawn = {trace.name: list(trace.x) for trace in figure.data}
    assert drawn["bicubic thumbnail"] == [21.0, 18.5]
    assert drawn["linear"] == [pytest.approx(24)]
    assert drawn["wavelet"] == [pytest.approx(27), pytest.approx(22)]
    assert drawn["optimised, 200 steps"] == [24.0]


def test_runs_of_earlier_versions_have_no_floors_and_a_report(make_study: Callable[..., MadeStudy],
                                                              scores: Callable[..., Any]) -> None:
    made = make_study()
    made.add(scores(27), decoder="wavelet", lpips=True)
    made.add(scores(25), decoder="attention", lpips=True)
    report = make_report(connect(), collect(connect(), made.finish()))
    keys = [table.key for table in report.tables]
    assert "floors" not in keys
    assert "floors" not in report.charts
    assert [row["metric"] for row in next(table for table in report.tables if table.key == "metrics").rows] == [
        "SSIM", "LPIPS"]
    leaderboard = next(table for table in report.tables if table.key == "leaderboard")
    assert not {"MS-SSIM", "DISTS", "feature error"} & {column.title for column in leaderboard.columns}


def with_metric(board: Board, name: str, values: dict[str, float]) -> Board:
    """The board with a metric that is the same for all images, by decoder."""
    for item in board.configurations:
        for seed, run in item.runs.items():
            assert run.scores is not None
            noise = 0.001 * np.random.default_rng([seed, len(item.label)]).normal(size=len(run.scores))
            run.scores[name] = pd.Series(values.get(item.label, np.nan) + noise, index=run.scores.index)
    return board


def test_another_metric_can_name_another_winner(board: Board) -> None:
    labels = [item.label for item in board.configurations]
    assert labels[0] == "vgg16:block1+wavelet"
    judged = metrics(with_metric(board, "dists", dict(zip(labels, (0.30, 0.10, 0.20, 0.40), strict=True))))
    row = next(row for row in judged.rows if row["metric"] == "DISTS")
    assert (row["better"], row["best"], row["winner"]) == ("lower", labels[1], labels[0])
    assert row["difference"] == pytest.approx(0.2, abs=0.005)
    assert (row["holds"], row["configurations"]) == ("yes", 4)
    assert row["agreement"] == pytest.approx(0.4)


def test_lpips_is_called_part_of_the_loss_only_where_it_was_on(make_study: Callable[..., MadeStudy],
                                                               scores: Callable[..., Any], board: Board) -> None:
    assert "Training minimises LPIPS" not in metrics(board).note
    made = make_study("with-lpips")
    made.add(scores(27), decoder="wavelet", lpips=True)
    made.add(scores(25), decoder="attention", lpips=True)
    with_lpips, = make_boards(collect(connect(), made.finish()).runs)
    assert "Training minimises LPIPS" in metrics(with_lpips).note


def test_a_metric_that_agrees_has_rank_correlation_1_and_no_difference(board: Board) -> None:
    labels = [item.label for item in board.configurations]
    judged = metrics(with_metric(board, "ms_ssim", dict(zip(labels, (0.9, 0.8, 0.7, 0.6), strict=True))))
    row = next(row for row in judged.rows if row["metric"] == "MS-SSIM")
    assert (row["best"], row["agreement"]) == (labels[0], pytest.approx(1))
    assert "difference" not in row


def test_a_metric_that_the_winner_lacks_is_left_out(board: Board) -> None:
    labels = [item.label for item in board.configurations]
    judged = metrics(with_metric(board, "ms_ssim", dict.fromkeys(labels[1:], 0.9)))
    assert "MS-SSIM" not in {row["metric"] for row in judged.rows}


def test_further_metrics_have_a_column_in_the_leaderboard(board: Board) -> None:
    from inversion.report.tables.rankings import leaderboard

    with_metric(board, "dists", {board.winner.label: 0.25})
    table = leaderboard(board)
    assert "DISTS" in [column.title for column in table.more]
    assert table.rows[0]["dists"] == pytest.approx(0.25, abs=0.001)
