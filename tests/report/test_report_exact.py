"""Test images that are exact, in the report and in the sweep's leaderboard: one mean, one rank, finite differences."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from inversion.cli.app import run_command
from inversion.cli.report import cli
from inversion.report import leaderboard
from inversion.report.data.board import make_boards
from inversion.report.data.collect import collect
from inversion.report.render.pictures import scenes
from inversion.report.tables import rankings
from inversion.tracking.connection import connect

OLD = {"test/psnr": 1.7976931348623157e308, "test/psnr_std": math.nan, "best/val_psnr": math.inf}
"""What versions before the rule logged for a run with an exact image."""


def with_exact(scores: Any, *places: int) -> Any:
    changed = np.array(scores)
    changed[list(places)] = math.inf
    return changed


@pytest.mark.parametrize("metrics", [{}, OLD], ids=["logged now", "logged before"])
def test_the_report_and_the_leaderboard_agree_on_a_run_with_an_exact_image(
    make_study: Callable[..., Any], scores: Callable[..., Any], metrics: dict[str, float]
) -> None:
    made, exact = make_study(), with_exact(scores(25), 0)
    counted = np.minimum(exact, 100)
    logged = metrics or {"test/psnr": float(counted.mean()), "test/psnr_std": float(counted.std()),
                         "test/exact_images": 1.0}
    made.add(exact, decoder="wavelet", metrics=logged)
    made.add(scores(45), decoder="attention")
    data = collect(connect(), made.finish())
    board, = make_boards(data.runs)
    assert [item.decoder for item in board.configurations] == ["attention", "wavelet"]
    rows = leaderboard.leaderboard([run.run for run in data.runs])
    assert [row.values["run"] for row in rows] == [item.label for item in board.configurations]
    assert rows[1].values["test/psnr"] == pytest.approx(board.configurations[1].psnr.mean)
    assert rows[1].values["test/psnr_std"] == pytest.approx(board.configurations[1].std("psnr"))
    assert rows[1].values["test/exact_images"] == board.configurations[1].exact == 1
    table = rankings.leaderboard(board)
    assert [row["exact_images"] for row in table.rows] == [0, 1]
    assert "exact images" in [column.title for column in table.shown]
    assert "counts as 100 dB" in table.note


def test_a_run_before_the_rule_without_its_table_of_images_comes_last(
    make_study: Callable[..., Any], scores: Callable[..., Any]
) -> None:
    made = make_study()
    run_id = made.add(with_exact(scores(25), 0), decoder="wavelet", metrics=OLD)
    made.add(scores(20), decoder="attention")
    (Path(made.client.get_run(run_id).info.artifact_uri) / "metrics" / "test_per_image.parquet").unlink()
    data = collect(connect(), made.finish())
    rows = leaderboard.leaderboard([run.run for run in data.runs])
    assert [row.values["run"] for row in rows] == ["vgg16:block1+attention", "vgg16:block1+wavelet"]
    assert math.isnan(rows[1].values["test/psnr"])


def test_differences_with_exact_images_are_finite_and_favour_the_exact_side(
    make_study: Callable[..., Any], scores: Callable[..., Any]
) -> None:
    made, plain = make_study(), scores(25)
    made.add(with_exact(plain, 0, 1), decoder="wavelet")
    made.add(with_exact(plain, 0), decoder="attention")
    made.add(plain, decoder="frequency_aware")
    board, = make_boards(collect(connect(), made.finish()).runs)
    one, two, three = board.configurations
    assert (one.decoder, two.decoder, three.decoder) == ("wavelet", "attention", "frequency_aware")
    first = board.comparisons[one.label, two.label]
    assert first.difference == pytest.approx((100 - plain[1]) / 12)
    assert first.effect == 1.0  # image 0 is exact on both sides: a tie, that is left out
    assert first.interval is not None
    assert all(math.isfinite(value) for value in (first.interval.low, first.interval.high, first.p))


@pytest.mark.parametrize("images", [1, 12])
def test_a_study_of_exact_and_identical_runs_has_a_report(
    make_study: Callable[..., Any], scores: Callable[..., Any], tmp_path: Path, images: int
) -> None:
    made = make_study("alike")
    names = [f"test/{number}.png" for number in range(images)]
    for decoder in ("wavelet", "attention"):
        made.add([math.inf] * images, decoder=decoder, images=names, pictures=True, metrics=OLD)
    for decoder in ("transposed_conv", "frequency_aware"):
        made.add(scores(25)[:images], decoder=decoder, images=names, pictures=True)
    made.finish()
    assert run_command(cli, ["alike", "--output", str(tmp_path / "report")]) == 0
    board = pd.read_csv(tmp_path / "report" / "tables" / "leaderboard.csv")
    assert board["psnr"].tolist()[:2] == [100.0, 100.0]
    assert board["exact_images"].tolist() == [images, images, 0, 0]
    differences = pd.read_csv(tmp_path / "report" / "tables" / "differences.csv")
    assert np.isfinite(differences[["difference", "p", "effect"]]).all(axis=None)
    alike = differences.iloc[0]
    assert (alike["difference"], alike["p"], alike["holds"]) == (0.0, 1.0, "no")
    text = (tmp_path / "report" / "index.html").read_text("utf-8")
    assert "exact</b>" in text
    assert "inf dB" not in text
    assert "e+308" not in text


def test_a_picture_that_is_exact_says_so(make_study: Callable[..., Any], scores: Callable[..., Any]) -> None:
    made = make_study()
    made.add(with_exact(scores(25), 3), pictures=True)
    connection = connect()
    board, = make_boards(collect(connection, made.finish()).runs)
    best = next(scene for scene in scenes(connection, board) if scene.role == "best")
    assert (best.image, best.reconstructions[0].psnr) == ("test/3.png", "exact")
