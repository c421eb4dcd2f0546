"""Scoring again and reconstructing need the tracking server alone, over HTTP."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

pytestmark = pytest.mark.acceptance


@pytest.fixture
def inversion(served: Any, workplace: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., str]:
    """``inversion("evaluate", ...)``: the command in a process of its own, whose data folder is new; its output."""
    monkeypatch.setenv("INVERSION_DATA", str(tmp_path / "new"))

    def run(*words: str) -> str:
        done = subprocess.run([sys.executable, "-m", "inversion", *words, "--tracking-uri", served.address], text=True,
                              capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout

    return run


def test_another_machine_scores_a_run_as_it_was_logged(served: Any, inversion: Callable[..., str], photo_folder: Path,
                                                       tmp_path: Path) -> None:
    moved = shutil.copytree(photo_folder, tmp_path / "moved")
    printed = inversion("evaluate", served.run.info.run_id, "--data", str(moved), "--data-dir", str(tmp_path / "cache"))
    assert "all 3 images score exactly as logged" in printed
    client = MlflowClient(served.address)
    evaluation, = client.search_runs([served.run.info.experiment_id],
                                     f"tags.`inversion.evaluates` = '{served.run.info.run_id}'")
    assert evaluation.info.status == "FINISHED"
    assert evaluation.data.metrics["test/psnr"] == served.run.data.metrics["test/psnr"]


def test_another_machine_reconstructs(served: Any, inversion: Callable[..., str], photo_folder: Path,
                                      workplace: Path) -> None:
    inversion("reconstruct", served.run.info.run_id, str(photo_folder / "test"), "--output", "out", "--size", "tiles")
    assert len(list((workplace / "out").glob("*_reconstruction.png"))) == 3
