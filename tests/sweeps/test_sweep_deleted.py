"""What somebody deletes, renames or edits in MLflow's UI: the sweep does it again, or says so, and its names stay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from mlflow.entities import Run
from optuna.trial import TrialState

from inversion.tracking.lifecycle import ExperimentDeletedError
from inversion.tracking.search import KIND
from inversion.tracking.study import DIGEST
from inversion.tracking.tracked_run import TrackedRun
from tests.sweeps.pool import GRID, ONE, PARENT_TAG, WorkerPool

Sweep = Callable[..., Any]


def decoder_of(run: Run) -> str:
    return str(run.data.params["decoder"])


def find(lab: Any, decoder: str) -> Run:
    found: list[Run] = [run for run in lab.results().runs if decoder_of(run) == decoder]
    run, = found
    return run


def remove(lab: Any, run: Run, for_good: bool = False) -> None:
    """As the UI does it, and as ``mlflow gc`` does it afterwards."""
    client = lab.results().client
    client.delete_run(run.info.run_id)
    if for_good:
        client._tracking_client.store._hard_delete_run(run.info.run_id)


@pytest.mark.parametrize("for_good", [False, True])
def test_a_finished_run_that_is_deleted_is_done_again_when_it_is_asked_for(
    for_good: bool, lab: Any, done: Callable[..., None], sweep: Sweep, work_here: Callable[[], None]
) -> None:
    done()
    before, kept = find(lab, "wavelet"), find(lab, "transposed_conv")
    scores = before.data.metrics["test/psnr"]
    remove(lab, before, for_good)
    outcome = sweep(lab.spec(GRID, epochs=1), "--workers", 0)
    assert (outcome.code, outcome.err) == (0, "")
    assert "study tiny: 2 runs, 0 of them new" in outcome.out
    assert "1 finished run was deleted in MLflow and is queued again" in outcome.out
    assert "1 queued, 1 finished" in sweep("--status", "--study", "tiny").out
    work_here()
    again = find(lab, "wavelet")
    assert again.info.run_id != before.info.run_id
    assert (again.info.status, again.data.metrics["test/psnr"]) == ("FINISHED", scores)
    assert find(lab, "transposed_conv").info.end_time == kept.info.end_time
    assert "queued again" not in sweep(lab.spec(GRID, epochs=1), "--workers", 0).out


def test_a_deleted_run_that_is_not_asked_for_is_named_and_the_exit_code_is_1(
    lab: Any, done: Callable[..., None], sweep: Sweep, pool: Callable[..., WorkerPool]
) -> None:
    done()
    remove(lab, find(lab, "wavelet"))
    pool()
    for words in (("--status", "--study", "tiny"), ("--join", "--study", "tiny"),
                  (lab.spec(GRID, epochs=1), "--workers", 0, "--where", "decoder=transposed_conv")):
        outcome = sweep(*words)
        assert (outcome.code, outcome.err) == (1, ""), words
        assert "1 finished run was deleted in MLflow: vgg16:block1+wavelet." in outcome.out
    assert "1 finished, 1 deleted" in sweep("--status", "--study", "tiny").out
    assert lab.results().parent.info.status == "FAILED"
    assert lab.results().parent.data.tags["inversion.runs"] == "1 finished, 1 deleted"
    assert len(lab.results().trials) == 2
    restored = lab.results().trials[1].user_attrs["mlflow_run"]
    lab.results().client.restore_run(restored)
    assert sweep("--status", "--study", "tiny").code == 0


def test_a_deleted_trial_of_a_search_is_done_again_with_its_parameters(
    lab: Any, done: Callable[..., None], sweep: Sweep, work_here: Callable[[], None]
) -> None:
    search = ("search:\n  metric: best/val_psnr\n  trials: 2\n  sampler: random\n"
              "  space:\n    lr: {low: 1e-6, high: 1e-2, log: true}")
    done(search, lr=None)
    first, second = lab.results().trials
    remove(lab, lab.results().client.get_run(first.user_attrs["mlflow_run"]))
    outcome = sweep(lab.spec(search, epochs=1, lr=None), "--workers", 0)
    assert "1 finished run was deleted in MLflow and is queued again" in outcome.out
    work_here()
    trials = lab.results().trials
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 3
    assert (trials[2].params, trials[2].value) == (first.params, first.value)
    assert lab.results().client.get_run(trials[2].user_attrs["mlflow_run"]).info.lifecycle_stage == "active"
    assert {run.data.tags[DIGEST] for run in lab.results().runs} == {
        trial.user_attrs["digest"] for trial in (first, second)}


def test_a_run_that_is_deleted_while_it_trains_fails_alone_and_is_done_again(
    lab: Any, queued: Callable[..., None], sweep: Sweep, work_here: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    queued(GRID, epochs=1)
    log = TrackedRun.on_epoch
    deleted: list[str] = []

    def delete_the_first(run: TrackedRun, *rest: Any) -> None:
        if not deleted:
            run.client.delete_run(run.run_id)
            deleted.append(run.run_id)
        log(run, *rest)

    monkeypatch.setattr(TrackedRun, "on_epoch", delete_the_first)
    work_here()
    trials = lab.results().trials
    assert [trial.state for trial in trials] == [TrialState.FAIL, TrialState.COMPLETE]
    assert trials[0].user_attrs["failure"] == "deleted"
    message = trials[0].user_attrs["failure_message"]
    assert message.startswith(f"run {deleted[0]} was deleted in MLflow while in progress: ")
    assert sweep(lab.spec(GRID, epochs=1), "--workers", 0).code == 0
    assert "1 queued, 1 finished" in sweep("--status", "--study", "tiny").out
    work_here()
    assert {run.info.status for run in lab.results().by_digest.values()} == {"FINISHED"}
    assert len(lab.results().runs) == 2


def test_a_worker_whose_experiment_is_deleted_gives_its_run_back_and_ends(
    lab: Any, queued: Callable[..., None], work_here: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    queued(GRID, epochs=1)
    client, experiment = lab.results().client, lab.results().parent.info.experiment_id

    def delete(run: TrackedRun, *rest: Any) -> None:
        client.delete_experiment(experiment)
        log(run, *rest)

    log = TrackedRun.on_epoch
    with monkeypatch.context() as patch:
        patch.setattr(TrackedRun, "on_epoch", delete)
        with pytest.raises(ExperimentDeletedError, match="was deleted in MLflow, with every run in it"):
            work_here()
    assert [trial.user_attrs.get("failure") for trial in lab.results().trials] == [None] * 3
    client.restore_experiment(experiment)
    work_here()
    assert {run.info.status for run in lab.results().by_digest.values()} == {"FINISHED"}
    assert len(lab.results().runs) == 2


def test_an_experiment_that_is_deleted_ends_the_driver_in_one_line_and_the_queue_is_kept(
    lab: Any, sweep: Sweep, pool: Callable[..., WorkerPool], work_here: Callable[[], None]
) -> None:
    client, spec = lab.results().client, lab.spec(ONE, epochs=1)

    def delete() -> None:
        client.delete_experiment(client.get_experiment_by_name("inversion").experiment_id)

    hired = pool(delete)
    outcome = sweep(spec)
    experiment = client.get_experiment_by_name("inversion").experiment_id
    restore = f"mlflow experiments restore -x {experiment}"
    assert (outcome.code, outcome.err.count("\n")) == (1, 1), outcome.err
    assert restore in outcome.err
    assert hired.stopped
    assert [trial.state for trial in lab.results().trials] == [TrialState.WAITING]
    refused = sweep(spec)
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert restore in refused.err
    client.restore_experiment(experiment)
    pool(work_here)
    assert sweep(spec).code == 0
    assert {run.info.status for run in lab.results().everything} == {"FINISHED"}


@pytest.mark.parametrize("for_good", [False, True])
def test_a_parent_that_is_deleted_while_it_works_is_made_again_with_its_files_and_children(
    for_good: bool, lab: Any, done: Callable[..., None], sweep: Sweep, pool: Callable[..., WorkerPool],
    work_here: Callable[[], None],
) -> None:
    done(ONE)
    first = lab.results().parent
    pool(lambda: remove(lab, first, for_good), lambda: None, work_here)
    outcome = sweep(lab.spec(GRID, epochs=1))
    assert (outcome.code, outcome.err) == (0, "")
    parent = lab.results().parent
    assert parent.info.run_id != first.info.run_id
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["inversion.runs"] == "2 finished"
    assert parent.data.tags["inversion.storage"].endswith("inversion-queue.db")
    assert {run.data.tags[PARENT_TAG] for run in lab.results().runs} == {parent.info.run_id}
    assert len(lab.results().runs) == 2
    files = {item.path for item in lab.results().client.list_artifacts(parent.info.run_id)}
    assert files == {"runs.json", "leaderboard.csv"} | (set() if for_good else {"tiny.yaml", "settings.json"})


def test_a_parent_that_was_deleted_is_named_by_who_looks_and_made_again_by_who_works(
    lab: Any, done: Callable[..., None], sweep: Sweep
) -> None:
    done()
    first = lab.results().parent
    remove(lab, first)
    looked = sweep("--status", "--study", "tiny")
    assert (looked.code, looked.err) == (1, "")
    assert "the parent run of study tiny was deleted in MLflow" in looked.out
    assert not [run for run in lab.results().everything if run.data.tags.get(KIND) == "study"]
    assert sweep(lab.spec(GRID, epochs=1), "--workers", 0).code == 0
    second = lab.results().parent
    assert {run.data.tags[PARENT_TAG] for run in lab.results().runs} == {second.info.run_id}
    lab.results().client.update_run(second.info.run_id, status="RUNNING")

    lab.results().client.restore_run(first.info.run_id)  # now there are two, of which the first counts
    assert sweep("--status", "--study", "tiny").code == 0
    assert {run.data.tags[PARENT_TAG] for run in lab.results().runs} == {first.info.run_id}
    assert lab.results().client.get_run(second.info.run_id).info.status == "KILLED"
    assert sweep(lab.spec(GRID, epochs=1), "--workers", 0).code == 0
    assert lab.results().client.get_run(first.info.run_id).info.status == "FINISHED"
