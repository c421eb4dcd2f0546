"""Parts in files of the user's own in a study: its queue has them for every worker."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from inversion.cli.app import run_command
from inversion.cli.report import cli as report
from inversion.models import part_files
from tests.cli.test_own_parts import ENCODER, FUSION, MEASURE, TERM
from tests.own_code import forget
from tests.sweeps.lab import Lab, Outcome

GRID = ("grid:\n  - encoder: ['mine.py:Mine:layer1..2']\n"
        "  - {encoder: 'mine.py:Mine:layer1+vgg16:block1', fusion: 'stack.py:Stack'}")
SHARED = ("search:\n  trials: 1\n  metric: best/val_psnr\n  sampler: random\n"
          "  space:\n    fusion: ['stack.py:Stack']")
SEARCHED = ("search:\n  trials: 1\n  metric: best/val_psnr\n  sampler: random\n"
            "  space:\n    encoder: ['mine.py:Mine:layer1/pool=2']\n    lr: {low: 1e-4, high: 1e-3}")


@pytest.fixture
def place(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The workplace with ``mine.py`` and ``stack.py``, and an empty data folder."""
    monkeypatch.setenv("INVERSION_DATA", str(lab.folder / "data"))
    (lab.folder / "mine.py").write_text(ENCODER)
    (lab.folder / "stack.py").write_text(FUSION)
    (lab.folder / "measure.py").write_text(MEASURE)
    (lab.folder / "term.py").write_text(TERM)
    return lab.folder


@pytest.mark.parametrize(("text", "base", "layers"), [
    (GRID, {"metrics": "measure.py:measure", "loss": "term.py:term"}, ["layer1", "layer1+block1", "layer2"]),
    (SHARED, {"encoder": "mine.py:Mine:layer2+vgg16:block1"}, ["layer2+block1"]),
    (SEARCHED, {"encoder": None, "lr": None}, ["layer1"]),
])
def test_the_code_is_in_the_queue_and_is_executed_where_it_is_trusted(
    lab: Lab, place: Path, queued: Callable[..., None], sweep: Callable[..., Outcome], text: str,
    base: dict[str, Any], layers: list[str],
) -> None:
    queued(text, epochs=1, vgg_weights="off", **base)
    forget(place, "mine.py", "stack.py", "measure.py", "term.py")
    refused = sweep("--join", "--study", "tiny")
    assert refused.code == 2
    assert "study tiny needs the code of " in refused.err
    outcome = sweep("--join", "--study", "tiny", "--trust-code")
    assert outcome.code == 0, outcome.err
    runs = lab.results().runs
    assert sorted(run.data.params["network_layer"] for run in runs) == layers
    assert all("mine.py:Mine@" in run.data.params["network"] for run in runs)

    shutil.rmtree(place / "data" / "code", ignore_errors=True)
    part_files._known.clear()
    code = run_command(report, ["tiny", "--output", "report"])
    assert code == 0
    has_own = [{"test/measure", "val/term"} <= run.data.metrics.keys() for run in runs]
    assert has_own == ["metrics" in base] * len(runs)
    assert ("measure" in pd.read_csv("report/tables/leaderboard.csv")) == ("metrics" in base)
    assert not part_files._known  # what was logged is read, and nothing is executed


def test_a_dry_run_reads_the_files_and_does_not_execute_them(
    lab: Lab, place: Path, sweep: Callable[..., Outcome],
) -> None:
    (place / "mine.py").write_text(ENCODER + "\nraise RuntimeError('executed')\n")
    shown = sweep(lab.spec(GRID), "--dry-run", "--where", "encoder=mine.py:Mine")
    assert shown.code == 0, shown.err
    assert "Mine@" in shown.out
    assert "2 runs" in shown.out
    wrong = sweep(lab.spec(GRID.replace("Mine", "Nine")), "--dry-run")
    assert wrong.code == 2
    assert "tiny.yaml:" in wrong.err
    assert "mine.py has no encoder 'Nine'" in wrong.err


def test_a_layer_that_is_not_there_keeps_everything_from_being_queued(
    lab: Lab, place: Path, sweep: Callable[..., Outcome],
) -> None:
    outcome = sweep(lab.spec(GRID.replace("..2", "..3")), "--workers", 0)
    assert outcome.code == 2
    assert "has no layer 'layer3'. Known: layer1, layer2, head, output" in outcome.err
    assert not lab.results().trials
