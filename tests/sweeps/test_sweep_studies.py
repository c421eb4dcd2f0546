"""One study for one name: found where it is, never mixed with another, and told in a line where that cannot be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import requests
from optuna.trial import TrialState

from inversion.sweeps import actions
from inversion.sweeps.queue.queue import Queue
from inversion.sweeps.study.study import PARENT
from inversion.sweeps.workers import worker as worker_module
from inversion.sweeps.workers.driver import Driver, read_snapshot
from inversion.tracking.ownership import owner_tags
from inversion.tracking.store_errors import NoTrackingError
from inversion.tracking.study import runs_of

GRID = "grid:\n  - decoder: [transposed_conv, wavelet]"
Sweep = Callable[..., Any]


@pytest.mark.usefixtures("worker_processes")
def test_trials_that_a_search_suggests_twice_come_to_one_run_and_have_its_value(lab: Any, sweep: Sweep) -> None:
    """Four trials of two decoders, by workers that may be at the same one at a time."""
    search = ("search:\n  metric: best/val_psnr\n  trials: 4\n  sampler: random\n"
              "  space:\n    decoder: [transposed_conv, wavelet]")
    outcome = sweep(lab.spec(search), "--workers", 2)
    assert outcome.code == 0, outcome.err
    left = lab.results()
    assert [trial.state for trial in left.trials] == [TrialState.COMPLETE] * 4
    assert len(left.by_digest) <= 2
    for trial in left.trials:
        run = left.client.get_run(trial.user_attrs["mlflow_run"])
        assert run.data.tags["inversion.digest"] == trial.user_attrs["digest"]
        assert trial.value == run.data.metrics["best/val_psnr"]
        assert [epoch for epoch, _ in left.history(run, "val/loss")] == [1, 2]


def test_a_search_is_not_mixed_with_another_one(lab: Any, sweep: Sweep) -> None:
    search = ("search:\n  metric: best/val_psnr\n  trials: 4\n  sampler: random\n"
              "  space:\n    decoder: [transposed_conv, wavelet]")
    assert sweep(lab.spec(search), "--workers", 0).code == 0
    outcome = sweep(lab.spec(search, epochs=3), "--workers", 0)
    assert outcome.code == 2
    assert "study tiny already exists with another epochs 3 (the study has 2)" in outcome.err
    assert sweep(lab.spec(search, threads=2), "--workers", 0).code == 0


def test_a_run_that_somebody_else_may_be_at_is_waited_for(
    lab: Any, queued: Callable[..., None], work_here: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its queue was lost: no trial knows it, and its process is where nobody here can look."""
    queued("grid:\n  - decoder: [wavelet]")
    client, experiment = lab.results().client, lab.results().parent.info.experiment_id
    trial, = lab.results().trials
    run_id = client.create_run(experiment, tags=owner_tags() | {
        "inversion.host": "elsewhere", "inversion.kind": "run", "inversion.study": "tiny",
        "inversion.digest": trial.user_attrs["digest"]}).info.run_id
    looks = 0

    def finish_later(*arguments: Any) -> Any:
        nonlocal looks
        looks += 1
        if looks == 3:
            client.log_metric(run_id, "best/val_psnr", 20.0)
            client.set_terminated(run_id, "FINISHED")
        return runs_of(*arguments)

    monkeypatch.setattr(worker_module, "runs_of", finish_later)
    monkeypatch.setattr(worker_module, "IDLE_SECONDS", 0.01)
    monkeypatch.setattr(worker_module, "train_steps", lambda *_: pytest.fail("it was trained here"))
    work_here()
    trial, = lab.results().trials
    assert (trial.state, trial.value, trial.user_attrs["mlflow_run"]) == (TrialState.COMPLETE, 20.0, run_id)


def test_nobody_joins_a_study_before_there_is_something_to_do(
    lab: Any, sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def add(queue: Queue, *rest: Any) -> int:
        seen.append(PARENT in queue.study.user_attrs)
        return add_runs(queue, *rest)

    add_runs = Queue.add
    monkeypatch.setattr(Queue, "add", add)
    assert sweep(lab.spec(GRID), "--workers", 0).code == 0
    assert seen == [False]


def test_a_study_that_is_only_queued_is_scheduled(lab: Any, queued: Callable[..., None], sweep: Sweep) -> None:
    queued()
    assert lab.results().parent.info.status == "SCHEDULED"
    assert sweep("--status", "--study", "tiny").code == 0
    assert lab.results().parent.info.status == "SCHEDULED"


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_study_is_found_in_its_experiment_without_being_told_which(
    elsewhere: bool, lab: Any, queued: Callable[..., None], sweep: Sweep
) -> None:
    queued(GRID, "--experiment", "mine", *(["--storage", f"{lab.folder}/elsewhere.db"] if elsewhere else []))
    assert "2 queued" in sweep("--status", "--study", "tiny").out
    refused = sweep("--join", "--study", "tiny", "--experiment", "other", "--storage",
                    f"{lab.folder}/{'elsewhere' if elsewhere else 'inversion-queue'}.db")
    assert refused.code == 2
    assert "study tiny is in the experiment mine, not in other" in refused.err
    if not elsewhere:
        assert sweep(lab.spec(GRID), "--workers", 0).code == 0
    experiments = {run.info.experiment_id for run in lab.results().client.search_runs(["0", "1", "2", "3"])}
    assert experiments == {lab.results().client.get_experiment_by_name("mine").experiment_id}


def test_a_look_ends_whatever_is_dead_in_the_experiment(
    lab: Any, queued: Callable[..., None], sweep: Sweep
) -> None:
    queued()
    client, experiment = lab.results().client, lab.results().parent.info.experiment_id
    dead = owner_tags() | {"inversion.pid": "4194305"}
    runs = [client.create_run(experiment, tags=dead | tags).info.run_id for tags in (
        {"inversion.kind": "run"}, {"inversion.kind": "study", "inversion.study": "other"})]
    alive = client.create_run(experiment, tags=owner_tags()).info.run_id
    assert sweep("--status", "--study", "tiny").code == 0
    assert [client.get_run(run_id).info.status for run_id in runs] == ["KILLED"] * 2
    assert client.get_run(alive).info.status == "RUNNING"


@pytest.mark.parametrize("answers", [False, True])
def test_a_tracking_store_that_is_lost_at_the_end_is_told_in_one_line(
    answers: bool, lab: Any, queued: Callable[..., None], sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    queued()

    def lose(error: Exception) -> Any:
        raise error

    monkeypatch.setattr(Driver, "drive", lambda driver, stop: read_snapshot(driver.reading))
    if answers:
        monkeypatch.setattr(actions, "sum_up", lambda *_: lose(requests.ConnectionError("reset by peer")))
    else:
        monkeypatch.setattr(actions, "require_answer", lambda uri: lose(NoTrackingError("it does not answer.")))
    outcome = sweep("--join", "--study", "tiny")
    assert (outcome.code, outcome.err.count("\n")) == (1, 1)
    assert ("reset by peer" if answers else "it does not answer") in outcome.err


def test_logs_that_cannot_be_written_are_told_before_anything_is_queued(
    lab: Any, sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    (lab.folder / "data").mkdir()
    (lab.folder / "data" / "sweeps").write_text("")
    monkeypatch.setenv("INVERSION_DATA", str(lab.folder / "data"))
    outcome = sweep(lab.spec(GRID))
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "the workers' logs cannot be written to" in outcome.err
    assert lab.results().trials == []


def test_whoever_only_looks_makes_nothing(lab: Any, sweep: Sweep) -> None:
    (lab.folder / "mlflow.db").unlink()
    for option in ("--status", "--join"):
        outcome = sweep(option, "--study", "tiny")
        assert outcome.code == 2
        assert "mlflow.db does not exist" in outcome.err
    assert list(lab.folder.iterdir()) == []


def test_runs_that_turn_out_to_be_the_same_are_told_with_their_place(lab: Any, sweep: Sweep) -> None:
    spec = lab.spec('grid:\n  - weights: [random, "random:0"]\n    decoder: [wavelet, transposed_conv]', weights=None)
    outcome = sweep(spec)
    assert outcome.code == 2
    line, = outcome.err.splitlines()
    assert "block 1: weights=random:0 gives the same run as weights=random (" in line
    assert lab.results().trials == []
