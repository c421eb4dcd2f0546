"""Requests about single runs: their logs, stopping, resuming and repeating them, from any process."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from inversion.errors import StoppedRunError
from inversion.sweeps.queue.entry import latest
from inversion.sweeps.queue.lease import Lease
from inversion.sweeps.workers.run_log import FOLDER, log_folder
from inversion.tracking.lifecycle import FAILURE
from inversion.tracking.search import KIND
from inversion.tracking.study import SUPERSEDED

ONE = "grid:\n  - decoder: [wavelet]"
TWO = "grid:\n  - decoder: [transposed_conv, wavelet]"
Sweep = Callable[..., Any]


def states(lab: Any) -> list[str]:
    return [entry.state for entry in latest(lab.results().trials)]


@pytest.fixture
def stopped_once(lab: Any, queued: Callable[..., None], work_here: Callable[..., None], sweep: Sweep,
                 monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> str:
    """A study of two runs: the first was stopped by a command after its first epoch, the other one is finished.

    What the command printed.
    """
    monkeypatch.setenv("INVERSION_GRACE_SECONDS", "3")
    caplog.set_level(logging.INFO, "inversion")  # as in the process of a worker
    queued(TWO)
    report = Lease.on_epoch
    said: list[str] = []

    def ask(lease: Lease, epoch: int, metrics: Any) -> None:
        report(lease, epoch, metrics)
        if not said:
            said.append(sweep("--study", "tiny", "--stop", "*transposed_conv").out)
            lease.stop.wait(60)
            assert lease.stop.error is StoppedRunError

    monkeypatch.setattr(Lease, "on_epoch", ask)
    work_here()
    assert states(lab) == ["stopped", "finished"]
    return said[0]


def test_a_run_is_stopped_and_waits_until_it_is_resumed(
    stopped_once: str, lab: Any, sweep: Sweep, work_here: Callable[..., None]
) -> None:
    assert "stopped: 0  vgg16:block1+transposed_conv (" in stopped_once
    assert "study tiny: 1 of 2 runs stopped; a running one ends after a step, within about 1 s" in stopped_once
    run, = (run for run in lab.results().runs if run.info.status != "FINISHED")
    assert (run.info.status, run.data.tags[FAILURE]) == ("KILLED", "stopped")
    shown = sweep("--status", "--study", "tiny")
    assert "stopped vgg16:block1+transposed_conv: stopped after step 0 of epoch 2: a stop was asked for" in shown.out
    joined = sweep("--join", "--study", "tiny", "--workers", "1")
    assert joined.code == 0, joined.err
    assert "1 run was stopped: 0 vgg16:block1+transposed_conv. --resume RUN continues a run" in joined.out
    assert lab.results().parent.info.status == "KILLED"
    refused = sweep("--study", "tiny", "--resume", "1")
    assert (refused.code, "it is finished: --rerun starts it from the beginning" in refused.err) == (2, True)
    resumed = sweep("--study", "tiny", "--resume", run.info.run_id[:8])
    assert "start a worker with: inversion-sweep --join --study tiny" in resumed.out
    assert states(lab) == ["interrupted", "finished"]
    work_here()
    now = lab.results()
    assert states(lab) == ["finished", "finished"]
    assert {run.info.status for run in now.runs} == {"FINISHED"}
    assert [epoch for epoch, _ in now.history(now.client.get_run(run.info.run_id), "val/loss")] == [1, 2]


def test_a_stop_is_remembered_where_the_worker_dies_first(lab: Any, queued: Callable[..., None], sweep: Sweep) -> None:
    queued(ONE)
    queue = open_queue(lab)
    claimed = queue.claim()
    assert sweep("--study", "tiny", "--stop", "0").code == 0
    assert states(lab) == ["running"]
    queue.release(claimed.trial._trial_id, "SIGTERM received")
    assert states(lab) == ["stopped"]
    assert queue.claim() is None


def test_a_waiting_run_is_stopped_too_and_no_worker_takes_it(
    lab: Any, queued: Callable[..., None], sweep: Sweep, work_here: Callable[..., None]
) -> None:
    queued(ONE)
    shown = sweep("--study", "tiny", "--stop", "0", "--dry-run")
    assert ("would be stopped: 0" in shown.out, states(lab)) == (True, ["queued"])
    assert sweep("--study", "tiny", "--stop", "0").code == 0
    work_here()
    assert (states(lab), lab.results().runs) == (["stopped"], [])
    assert "has not begun (stopped: stopped with --stop" in sweep("--study", "tiny", "--logs", "0").err
    again = sweep("--study", "tiny", "--stop", "0")
    assert (again.code, "it is stopped already" in again.err) == (2, True)


def test_a_finished_run_is_repeated_beside_the_old_one_which_is_not_ranked(
    lab: Any, done: Callable[..., None], sweep: Sweep, work_here: Callable[..., None]
) -> None:
    done(ONE)
    old, = lab.results().runs
    assert sweep("--study", "tiny", "--rerun", "0", "--dry-run").code == 0
    assert states(lab) == ["finished"]
    outcome = sweep("--study", "tiny", "--rerun", old.info.run_id[:6])
    assert outcome.code == 0, outcome.err
    assert states(lab) == ["queued"]
    sweep("--status", "--study", "tiny")  # restores tags of the study's runs
    work_here()
    now = lab.results()
    new, = now.runs
    kept = now.client.get_run(old.info.run_id)
    assert new.info.run_id != old.info.run_id
    assert (kept.data.tags[KIND], kept.info.status, kept.data.metrics) == (SUPERSEDED, "FINISHED", old.data.metrics)
    assert new.data.metrics["test/psnr"] == old.data.metrics["test/psnr"]
    joined = sweep("--join", "--study", "tiny", "--workers", "1")
    assert joined.code == 0, joined.err
    assert now.client.get_run(old.info.run_id).data.tags[KIND] == SUPERSEDED
    board = now.client.download_artifacts(now.parent.info.run_id, "leaderboard.csv")
    assert len(Path(board).read_text().splitlines()) == 2


def test_the_log_of_a_run_is_an_artifact_which_the_command_prints(
    lab: Any, stopped_once: str, sweep: Sweep, work_here: Callable[..., None]
) -> None:
    first, second = (str(entry.run_id) for entry in latest(lab.results().trials))
    shown = sweep("--study", "tiny", "--logs", "0", "--follow")
    assert shown.code == 0, shown.err
    lines = shown.out.splitlines()
    assert lines[0] == f"note: run {first} (vgg16:block1+transposed_conv): stopped"
    assert f"vgg16:block1+transposed_conv: run {first} on " in lines[1]
    assert "epoch 1: " in shown.out
    assert "ended: stopped: stopped after step 0 of epoch 2" in lines[-1]
    assert second not in shown.out
    client = lab.results().client
    assert [item.path.split("/")[0] for item in client.list_artifacts(first, FOLDER)] == [FOLDER]
    assert not log_folder("tiny", first).exists()
    sweep("--study", "tiny", "--resume", "0")
    work_here()
    both = sweep("--study", "tiny", "--logs", first[:8]).out.splitlines()
    assert both[1:len(lines)] == lines[1:]  # the part of the first worker, then that of the second
    assert both[-1].endswith("vgg16:block1+transposed_conv: finished")


def test_what_a_failing_run_says_is_in_its_log(
    lab: Any, queued: Callable[..., None], sweep: Sweep, work_here: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch
) -> None:
    queued(TWO, epochs=1)

    def fail(run: Any, *_: Any) -> None:
        raise ZeroDivisionError("a bug at mlflow://me:secret@host")

    monkeypatch.setattr("inversion.tracking.results.log_scores", fail)
    work_here(side_by_side=2)
    shown = sweep("--study", "tiny", "--logs", "*wavelet").out
    assert "Traceback (most recent call last):" in shown
    assert "ZeroDivisionError: a bug at mlflow://me:***@host" in shown
    assert "transposed_conv" not in shown


def test_a_followed_log_ends_with_the_run(
    lab: Any, queued: Callable[..., None], sweep: Sweep, work_here: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log is read as another machine reads it, from artifacts, and the worker goes on between two looks."""
    queued(ONE, epochs=1)
    queue = open_queue(lab)
    claimed = queue.claim()
    run = start_run(lab)
    queue.remember_run(claimed.trial._trial_id, run)
    client = lab.results().client
    client.log_text(run, "epoch 1\nepo", f"{FOLDER}/20260101T000000.0Z_there_1.log")

    def wait(seconds: float) -> None:
        assert seconds > 1
        client.log_text(run, "epoch 1\nepoch 2\nfinished\n", f"{FOLDER}/20260101T000000.0Z_there_1.log")
        queue.fail(claimed.trial._trial_id, "oom", "no memory")

    monkeypatch.setattr("inversion.sweeps.logs.time.sleep", wait)
    shown = sweep("--study", "tiny", "--logs", "0", "--follow")
    assert shown.code == 0, shown.err
    assert shown.out.splitlines()[1:] == ["epoch 1", "epoch 2", "finished"]


@pytest.mark.parametrize(("words", "said"), [
    (("--logs", "0"), "has no log yet: it has not begun"),
    (("--logs", "*"), "2 runs of study tiny match '*'. Give one by its number:"),
    (("--logs", "*wave"), "study tiny has no run '*wave'"),
    (("--logs", "0", "--follow", "--retry-failed"), "--logs is a request of its own: leave out --retry-failed"),
    (("--follow", "--status"), "--follow is for --logs"),
    (("--stop", "0", "--rerun", "0"), "--stop and --rerun are two requests: give one"),
    (("--stop", "0", "--time-limit", "8h"), "--stop is a request of its own: leave out --time-limit"),
    (("--rerun", "0"), "is not rerun, as it is waiting, and has not begun"),
    (("--resume", "*"), "none of the 2 runs that match is stopped, timed out or failed (2 queued)"),
])
def test_what_cannot_be_done_is_told(words: tuple[str, ...], said: str, lab: Any, queued: Callable[..., None],
                                     sweep: Sweep) -> None:
    if "--time-limit" not in words and "--follow" not in words:
        queued(TWO)
    outcome = sweep("--study", "tiny", *words)
    assert outcome.code == 2
    assert said in outcome.err
    assert TrialState.FAIL not in {trial.state for trial in lab.results().trials}


def open_queue(lab: Any) -> Any:
    from inversion.sweeps.queue.storage import open_storage
    from inversion.sweeps.study.study import open_study

    return open_study(open_storage(f"sqlite:///{lab.folder}/inversion-queue.db"), "tiny").queue


def start_run(lab: Any) -> str:
    client = lab.results().client
    run_id: str = client.create_run(lab.results().parent.info.experiment_id).info.run_id
    return run_id
