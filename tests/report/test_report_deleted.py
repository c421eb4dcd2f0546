"""A study of which somebody deleted, renamed or edited runs in MLflow is reported, and what is missing is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow.entities import Metric

from inversion.cli.app import run_command
from inversion.cli.report import cli
from inversion.console import Console
from inversion.report import leaderboard
from inversion.report.data.collect import collect
from inversion.tracking.connection import connect
from inversion.tracking.study import DIGEST


def report(*words: object) -> int:
    return run_command(cli, [str(word) for word in words])


@pytest.mark.parametrize("for_good", [False, True])
def test_a_deleted_run_is_named_as_that_and_not_as_one_that_has_not_begun(
    for_good: bool, make_study: Callable[..., Any], scores: Callable[..., Any], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = make_study()
    made.add(scores(25))
    run_id = made.add(scores(24), decoder="wavelet")
    made.planned[-1]["run_id"] = run_id
    made.plan("vgg16:block3+wavelet")
    made.finish()
    made.client.delete_run(run_id)
    if for_good:
        made.client._tracking_client.store._hard_delete_run(run_id)
    assert report("made", "--output", tmp_path) == 0
    assert "1 of 3 runs are finished; 1 were deleted in MLflow." in capsys.readouterr().out
    missing = pd.read_csv(tmp_path / "tables" / "missing.csv")
    assert dict(zip(missing["run"], missing["why"], strict=True)) == {
        "vgg16:block1+wavelet": "deleted in MLflow", "vgg16:block3+wavelet": "not begun"}
    assert pd.read_csv(tmp_path / "tables" / "leaderboard.csv")["configuration"].tolist() == [
        "vgg16:block1+transposed_conv"]


def test_a_study_whose_own_run_is_deleted_is_told_with_the_way_back(
    make_study: Callable[..., Any], scores: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make_study()
    made.add(scores(25))
    made.finish()
    made.client.delete_run(made.parent)
    assert report("made", "--output", tmp_path) == 2
    line, = capsys.readouterr().err.splitlines()
    assert "the run of study 'made' was deleted in MLflow" in line
    assert f"mlflow runs restore --run-id {made.parent}" in line
    made.client.restore_run(made.parent)
    assert report("made", "--output", tmp_path) == 0


@pytest.mark.parametrize("name", ["the same", "[/b]\n", "x" * 900])
def test_renamed_runs_keep_the_names_of_their_configurations(
    name: str, make_study: Callable[..., Any], scores: Callable[..., Any], tmp_path: Path
) -> None:
    made = make_study()
    runs = [made.add(scores(25 - number), decoder=decoder, seed=seed)
            for number, decoder in enumerate(("transposed_conv", "wavelet")) for seed in (0, 1)]
    runs.append(made.add(None, status="FAILED", decoder="attention", tags={"inversion.failure": "oom"}))
    made.finish()
    for run_id in runs:
        made.client.update_run(run_id, name=name)
    made.client.set_tag(runs[0], DIGEST, "edited")
    made.client.delete_tag(runs[1], DIGEST)
    assert report("made", "--output", tmp_path) == 0
    assert pd.read_csv(tmp_path / "tables" / "leaderboard.csv")["configuration"].tolist() == [
        "vgg16:block1+transposed_conv", "vgg16:block1+wavelet"]
    assert pd.read_csv(tmp_path / "tables" / "failures.csv")["run"].tolist() == ["vgg16:block1+attention"]
    assert not (tmp_path / "tables" / "missing.csv").exists()
    rows = leaderboard.leaderboard(run.run for run in collect(connect(), "made").runs)
    assert [row.values["run"] for row in rows] == [
        f"vgg16:block1+{decoder}{seed}" for decoder in ("transposed_conv", "wavelet") for seed in ("", " seed=1")]


def test_a_run_without_some_of_its_metrics_is_on_the_board(make_study: Callable[..., Any]) -> None:
    """Somebody copied it by hand, or called it FINISHED."""
    made = make_study()
    run_id = made.add(None)
    made.client.log_batch(run_id, metrics=[Metric("test/psnr", 20.0, 0, 0)])
    made.finish()
    rows = leaderboard.leaderboard(run.run for run in collect(connect(), "made").runs)
    console = Console(record=True, width=120)
    leaderboard.show(rows, console)
    assert "vgg16:block1+transposed_conv" in console.export_text()
    assert leaderboard.as_csv(rows).splitlines()[1].startswith("1,vgg16:block1+transposed_conv,20.0,,")
