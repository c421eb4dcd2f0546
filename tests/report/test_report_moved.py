"""The report of a study whose folder was copied to another machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow.tracking._tracking_service import utils as tracking_service

from inversion.cli.app import run_command
from inversion.cli.report import cli


@pytest.fixture
def moved_folder(make_study: Callable[..., Any], scores: Callable[..., Any], workplace: Path,
                 monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study's folder under another name than the one that its database has."""
    made = make_study()
    for decoder, mean in (("wavelet", 25), ("attention", 20)):
        made.add(scores(mean), encoder="vgg16:block1", decoder=decoder, pictures=True)
    made.finish()
    tracking_service._artifact_repos_cache.clear()  # another process made it
    there = workplace.with_name("moved")
    workplace.rename(there)
    monkeypatch.chdir(there)
    return there


def test_it_has_the_scores_and_is_logged_where_the_folder_is_now(
        moved_folder: Path, workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(cli, ["made", "--output", "report"]) == 0, capsys.readouterr().err
    assert "vgg16:block1+wavelet is first with 25.00 dB" in capsys.readouterr().out
    board = pd.read_csv(moved_folder / "report" / "tables" / "leaderboard.csv")
    assert list(board["psnr"].round(6)) == [25, 20]
    assert len(list((moved_folder / "mlruns").rglob("report/index.html"))) == 1
    assert not workplace.exists()


def test_artifacts_that_are_nowhere_are_asked_for_in_one_line(
        moved_folder: Path, workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (moved_folder / "mlruns").rename(moved_folder / "elsewhere")
    assert run_command(cli, ["made", "--output", "report"]) == 2
    line, = capsys.readouterr().err.splitlines()
    assert f"INVERSION_ARTIFACTS={workplace}/mlruns=FOLDER" in line
    assert not (moved_folder / "report").exists()
