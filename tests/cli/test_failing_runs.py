"""Runs that fail or are interrupted: exit code, status in MLflow, and one line."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow.entities import Run

from inversion.losses.reconstruction import LossTerms, ReconstructionLoss

Command = Callable[..., Any]
Runs = Callable[[], list[Run]]


class Broken:
    """Stands in for the loss and does something at one of its calls."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.original = ReconstructionLoss.forward
        self.monkeypatch = monkeypatch

    def at(self, call: int, action: Callable[[LossTerms], LossTerms]) -> None:
        """Replaces what the loss gives at its ``call``-th call, counted from 1, by what ``action`` makes of it."""
        self._replace(action, lambda number: number == call)

    def always(self, action: Callable[[LossTerms], LossTerms]) -> None:
        """The same at every call."""
        self._replace(action, lambda number: True)

    def _replace(self, action: Callable[[LossTerms], LossTerms], when: Callable[[int], bool]) -> None:
        calls = 0

        def forward(loss: ReconstructionLoss, *arguments: Any) -> LossTerms:
            nonlocal calls
            calls += 1
            terms = self.original(loss, *arguments)
            return action(terms) if when(calls) else terms

        self.monkeypatch.setattr(ReconstructionLoss, "forward", forward)


@pytest.fixture
def loss(monkeypatch: pytest.MonkeyPatch) -> Broken:
    return Broken(monkeypatch)


def with_nan(terms: LossTerms) -> LossTerms:
    return terms._replace(total=terms.total * float("nan"), mse=terms.mse * float("nan"))


def raising(error: BaseException) -> Callable[[LossTerms], LossTerms]:
    def action(terms: LossTerms) -> LossTerms:
        raise error

    return action


def sending(number: signal.Signals) -> Callable[[LossTerms], LossTerms]:
    def action(terms: LossTerms) -> LossTerms:
        os.kill(os.getpid(), number)
        return terms

    return action


def failed(outcome: Any, all_runs: Runs, code: int, status: str, kind: str) -> str:
    """The error's text, after checking exit code, status and tags."""
    assert outcome.code == code, outcome.err
    lines = outcome.err.strip().splitlines()  # click ends the line that a Ctrl-C stands in
    assert len(lines) == 1, outcome.err
    run, = all_runs()
    assert run.info.status == status
    assert run.info.end_time
    assert run.data.tags["inversion.failure"] == kind
    text = lines[0].removeprefix("error: ")
    assert " ".join(run.data.tags["inversion.failure_message"].split()) == text
    return str(text)


def test_a_loss_that_is_not_finite_fails_the_run(train: Command, all_runs: Runs, loss: Broken) -> None:
    loss.at(3, with_nan)
    text = failed(train(epochs=3, batch_size=2), all_runs, 1, "FAILED", "nonfinite")
    assert "step 1 of epoch 2: mse is not finite" in text
    assert "lower lr (now 0.001)" in text
    assert "test/psnr" not in all_runs()[0].data.metrics


def test_memory_that_runs_out_is_told_without_a_traceback(train: Command, all_runs: Runs, loss: Broken) -> None:
    loss.always(raising(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.\nmore")))
    text = failed(train(), all_runs, 1, "FAILED", "oom")
    assert text.startswith("out of memory: not even one image fits at image_size 32 with encoder vgg16:block1 and ")
    assert "CUDA out of memory. Tried to allocate 9 GiB. Try a smaller image_size" in text


def test_memory_that_runs_out_once_halves_the_micro_batch_and_the_run_is_tagged(
        train: Command, all_runs: Runs, loss: Broken) -> None:
    loss.at(1, raising(torch.OutOfMemoryError("CUDA out of memory.")))
    assert train(batch_size=4).code == 0
    run, = all_runs()
    assert (run.info.status, run.data.tags["inversion.micro_batch"]) == ("FINISHED", "2")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_as_killed_with_its_checkpoint_uploaded(
        number: signal.Signals, train: Command, all_runs: Runs, loss: Broken) -> None:
    loss.at(3, sending(number))
    text = failed(train(epochs=3, batch_size=2), all_runs, 130, "KILLED", "interrupted")
    assert text == f"stopped after step 1 of epoch 2: {number.name} received. The checkpoint is saved."
    run, = all_runs()
    saved = torch.load(Path(run.info.artifact_uri) / "checkpoints" / "last.pt", weights_only=True)["progress"]
    assert (saved["epoch"], saved["step"]) == (1, 1)


def test_signals_are_handled_as_before_when_the_command_is_done(train: Command, loss: Broken) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    loss.at(1, sending(signal.SIGTERM))
    assert train().code == 130
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_second_ctrl_c_does_not_wait(train: Command, all_runs: Runs, loss: Broken) -> None:
    def twice(terms: LossTerms) -> LossTerms:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the second signal came to nothing")

    loss.at(1, twice)
    failed(train(), all_runs, 130, "KILLED", "interrupted")


def test_an_error_of_ours_that_nobody_foresaw_fails_the_run_and_is_not_hidden(
        train: Command, all_runs: Runs, loss: Broken) -> None:
    loss.at(1, raising(ZeroDivisionError("a bug")))
    with pytest.raises(ZeroDivisionError, match="a bug"):
        train()
    run, = all_runs()
    assert run.info.status == "FAILED"
    tags = run.data.tags
    assert (tags["inversion.failure"], tags["inversion.failure_message"]) == ("error", "ZeroDivisionError: a bug")
