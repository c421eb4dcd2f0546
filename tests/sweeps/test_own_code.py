"""A decoder in a file of the user's own in a study: the queue has it for every worker."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from inversion.models import part_files
from tests.cli.test_own_decoder import CODE
from tests.own_code import forget
from tests.sweeps.lab import Lab, Outcome

GRID = "grid:\n  - decoder: ['mine.py:Mine', linear]"
SEARCH = ("search:\n  trials: 2\n  metric: best/val_psnr\n  sampler: random\n"
          "  space:\n    decoder: ['mine.py:Mine']\n    mse_weight: {low: 0.1, high: 1}")


@pytest.fixture
def mine(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``mine.py`` in the workplace, with an empty data folder."""
    monkeypatch.setenv("INVERSION_DATA", str(lab.folder / "data"))
    path = lab.folder / "mine.py"
    path.write_text(CODE)
    return path


@pytest.mark.parametrize("text", [GRID, SEARCH])
def test_the_code_is_in_the_queue_and_is_executed_where_it_is_trusted(
    lab: Lab, mine: Path, queued: Callable[..., None], sweep: Callable[..., Outcome], text: str,
) -> None:
    queued(text, epochs=1, vgg_weights="off")
    forget(lab.folder, "mine.py")
    refused = sweep("--join", "--study", "tiny")
    assert refused.code == 2
    assert "study tiny needs the code of mine.py:Mine@" in refused.err
    outcome = sweep("--join", "--study", "tiny", "--trust-code")
    assert outcome.code == 0, outcome.err
    runs = lab.results().runs
    assert len(runs) == 2
    names = {run.data.params["decoder"] for run in runs} - {"linear"}
    name, = names
    assert name.startswith("mine.py:Mine@")


def test_a_worker_alone_does_not_execute_it(
    lab: Lab, mine: Path, queued: Callable[..., None], work_here: Callable[..., None],
) -> None:
    queued(GRID, epochs=1, vgg_weights="off")
    forget(lab.folder, "mine.py")
    work_here()
    states = {trial.user_attrs["config"]["decoder"]: trial.user_attrs.get("failure_message", "")
              for trial in lab.results().trials}
    assert states.pop("linear") == ""
    message, = states.values()
    assert "needs the code of mine.py:Mine@" in message


def test_runs_are_trained_with_the_file_as_it_was_when_they_were_queued(
    lab: Lab, mine: Path, queued: Callable[..., None], work_here: Callable[..., None],
) -> None:
    queued(GRID, epochs=1, vgg_weights="off")
    mine.write_text("this is not Python")
    part_files._known.clear()
    work_here()
    assert {run.info.status for run in lab.results().runs} == {"FINISHED"}


def test_a_dry_run_reads_the_file_and_does_not_execute_it(lab: Lab, mine: Path, sweep: Callable[..., Outcome]) -> None:
    mine.write_text(CODE + "\nraise RuntimeError('executed')\n")
    shown = sweep(lab.spec(GRID), "--dry-run", "--where", "decoder=mine.py:Mine")
    assert shown.code == 0, shown.err
    assert "Mine@" in shown.out
    mine.write_text("class Other:\n")
    wrong = sweep(lab.spec(GRID), "--dry-run")
    assert wrong.code == 2
    assert "tiny.yaml:" in wrong.err
    assert "mine.py:1: syntax error" in wrong.err


def test_a_file_that_fails_keeps_everything_from_being_queued(
    lab: Lab, mine: Path, sweep: Callable[..., Outcome],
) -> None:
    mine.write_text(CODE.replace("Mine(nn.Module)", "Mine"))
    outcome: Any = sweep(lab.spec(GRID), "--workers", 0)
    assert outcome.code == 2
    assert "the class is not a torch.nn.Module" in outcome.err
    assert not lab.results().trials
