"""Which runs ``--resume`` takes: none that another process owns or may own, that was deleted, or that has changed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from inversion.runs.prepare import prepare
from inversion.tracking.ownership import HOST, NAMESPACE, PID, owner_tags
from inversion.tracking.tracked_run import TrackedRun

Command = Callable[..., Any]
Runs = Callable[[], list[Run]]


def test_a_run_that_does_not_exist_is_not_resumed(inversion: Command, workplace: Path) -> None:
    assert "has no run '0123456789abcdef'" in inversion("train", "--resume", "0123456789abcdef").refused()


def test_a_run_of_another_program_is_not_resumed(inversion: Command, all_runs: Runs, workplace: Path) -> None:
    client = MlflowClient(f"sqlite:///{workplace}/mlflow.db")
    run_id = client.create_run("0").info.run_id
    assert "was not created by inversion" in inversion("train", "--resume", run_id).refused()
    assert all_runs()[0].info.status == "RUNNING"


def test_where_nobody_here_can_look_a_run_is_not_resumed_before_it_is_ended(
        train: Command, inversion: Command, all_runs: Runs, stop_at_step: Callable[[int], None]) -> None:
    """Unknown is not dead: it may train on another host, or in another container of this one."""
    stop_at_step(1)
    assert train(batch_size=2).code == 130
    stopped, = all_runs()
    client, run_id = MlflowClient(), stopped.info.run_id
    for owner, where in (({HOST: "elsewhere", PID: "17"},
                          "process 17 on elsewhere: check it there with inversion doctor"),
                         ({NAMESPACE: "pid:[7]"}, "in another container or another machine of that name")):
        for key, value in (owner_tags() | owner).items():
            client.set_tag(run_id, key, value)
        client.update_run(run_id, status="RUNNING")
        before = all_runs()[0]
        told = inversion("train", "--resume", run_id).refused()
        assert f"run {run_id} is RUNNING, and whether its process is alive cannot be checked" in told
        assert where in told
        assert f"inversion doctor --end {run_id}" in told
        assert (all_runs()[0].info.status, all_runs()[0].data.tags) == ("RUNNING", before.data.tags)
    assert inversion("doctor", "--end", run_id).code == 0
    outcome = inversion("train", "--resume", run_id)
    assert (outcome.code, outcome.err) == (0, "")
    assert all_runs()[0].info.status == "FINISHED"


def test_a_run_that_somebody_else_took_meanwhile_is_not_resumed(
        train: Command, inversion: Command, all_runs: Runs, stop_at_step: Callable[[int], None],
        monkeypatch: pytest.MonkeyPatch) -> None:
    """Both saw it KILLED, and read photographs; the other one was done with that first."""
    stop_at_step(1)
    assert train(batch_size=2).code == 130
    run_id = all_runs()[0].info.run_id

    def prepare_slowly(*arguments: Any) -> Any:
        for key, value in (owner_tags() | {HOST: "elsewhere"}).items():
            MlflowClient().set_tag(run_id, key, value)
        MlflowClient().update_run(run_id, status="RUNNING")
        return prepare(*arguments)

    monkeypatch.setattr("inversion.runs.prepare.prepare", prepare_slowly)
    assert "is RUNNING, and whether its process is alive cannot" in inversion("train", "--resume", run_id).refused()
    assert all_runs()[0].data.tags[HOST] == "elsewhere"


def test_a_process_whose_run_was_taken_over_writes_nothing_more(
        train: Command, all_runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was called dead by `doctor --end`, and another machine goes on with it."""
    monkeypatch.setattr("inversion.tracking.tracked_run.CONFIRM_SECONDS", 0)
    log = TrackedRun.log_metrics

    def take_away(run: TrackedRun, metrics: Any, step: int = 0, model_id: str | None = None) -> None:
        log(run, metrics, step, model_id)
        if step == 1:
            run.client.set_tag(run.run_id, PID, "17")

    monkeypatch.setattr(TrackedRun, "log_metrics", take_away)
    outcome = train(epochs=3)
    run, = all_runs()
    assert outcome.code == 1
    assert outcome.err.startswith(f"error: run {run.info.run_id} was taken over by process 17 on ")
    assert len(outcome.err.splitlines()) == 1
    assert run.info.status == "RUNNING"  # it is the other's
    assert [metric.step for metric in MlflowClient().get_metric_history(run.info.run_id, "val/loss")] == [1]


@pytest.mark.parametrize("for_good", [False, True])
def test_a_run_that_is_deleted_while_it_trains_ends_in_one_line(
        for_good: bool, train: Command, inversion: Command, all_runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    log = TrackedRun.log_metrics

    def delete(run: TrackedRun, metrics: Any, step: int = 0, model_id: str | None = None) -> None:
        if step == 1:
            run.client.delete_run(run.run_id)
            if for_good:
                run.client._tracking_client.store._hard_delete_run(run.run_id)
        log(run, metrics, step, model_id)

    with monkeypatch.context() as patch:
        patch.setattr(TrackedRun, "log_metrics", delete)
        outcome = train(batch_size=2)
    assert (outcome.code, len(outcome.err.splitlines())) == (1, 1), outcome.err
    assert "was deleted in MLflow while in progress: " in outcome.err
    if for_good:
        assert all_runs() == []
        return
    run, = all_runs()
    restore = f"`mlflow runs restore --run-id {run.info.run_id}`"
    assert restore in outcome.err
    assert restore in inversion("train", "--resume", run.info.run_id).refused()
    assert restore in inversion("evaluate", run.info.run_id).refused()


@pytest.mark.parametrize("status", ["FINISHED", "RUNNING"])
def test_a_run_id_left_in_the_environment_is_refused(
        status: str, train: Command, all_runs: Runs, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`mlflow run` hands over a run that is RUNNING and nobody's."""
    client = MlflowClient(f"sqlite:///{workplace}/mlflow.db")
    owner = owner_tags() | {HOST: "elsewhere"}
    run_id = client.create_run("0", tags=owner if status == "RUNNING" else {}).info.run_id
    client.update_run(run_id, status=status)
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "0")
    told = train().refused()
    assert f"run {run_id} is {status}" in told
    run, = all_runs()
    assert (run.info.status, run.data.params) == (status, {})


def test_a_finished_run_is_not_resumed(train: Command, inversion: Command, all_runs: Runs) -> None:
    assert train().code == 0
    run, = all_runs()
    assert "is FINISHED" in inversion("train", "--resume", run.info.run_id).refused()
    assert all_runs()[0].info.status == "FINISHED"


def test_a_run_whose_photographs_changed_is_not_resumed(
        train: Command, inversion: Command, all_runs: Runs, stop_at_step: Callable[[int], None],
        photo_folder: Path, workplace: Path) -> None:
    photos = shutil.copytree(photo_folder, workplace / "photos")
    stop_at_step(1)
    assert train(data=photos, epochs=3).code == 130
    shutil.copy(photos / "train" / "train0.png", photos / "train" / "train1.png")
    run, = all_runs()
    assert "its images, weights or version have changed" in inversion("train", "--resume", run.info.run_id).refused()
    assert all_runs()[0].data.tags == run.data.tags
    assert all_runs()[0].info.status == "KILLED"
