"""``--resume``: a run that was stopped anywhere ends like one that was not, in the same MLflow run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from inversion.losses.reconstruction import LossTerms, ReconstructionLoss
from inversion.runs.prepare import prepare
from inversion.tracking.ownership import HOST, NAMESPACE, PID, owner_tags
from inversion.tracking.tracked_run import TrackedRun

Command = Callable[..., Any]
Runs = Callable[[], list[Run]]

STEPS = 2
"""The photographs make two batches of two."""
OF_THE_CLOCK = {"images_per_second", "train_seconds", "eval_seconds", "inference_ms_per_image",
                "train_peak_memory_mb", "eval_peak_memory_mb"}


class Numbers:
    """All that a run learned and logged, but for times and memory."""

    def __init__(self, run: Run) -> None:
        self.status = run.info.status
        self.best = torch.load(Path(run.info.artifact_uri) / "checkpoints" / "best.pt", weights_only=True)["model"]
        client = MlflowClient()
        histories = {name: client.get_metric_history(run.info.run_id, name) for name in run.data.metrics}
        self.histories = {name: [(metric.step, metric.value) for metric in history]
                          for name, history in histories.items() if name not in OF_THE_CLOCK}
        self.epochs = [metric.step for metric in histories["images_per_second"]]


def assert_same(run: Numbers, undisturbed: Numbers) -> None:
    assert run.status == undisturbed.status == "FINISHED"
    assert run.best.keys() == undisturbed.best.keys()
    for name, value in undisturbed.best.items():
        assert torch.equal(run.best[name], value), name
    for name, history in undisturbed.histories.items():
        assert list(dict.fromkeys(run.histories[name])) == history, name
        if history[0][0] > 0:  # by epoch
            assert run.histories[name] == history, name
    assert run.histories.keys() == undisturbed.histories.keys()
    assert run.epochs == undisturbed.epochs == list(range(1, len(run.epochs) + 1))


@pytest.fixture
def stop_at_step(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """``stop_at_step(3)``: the process gets SIGTERM during the third step from now on, and only then."""
    original = ReconstructionLoss.forward

    def arm(step: int) -> None:
        calls = 0

        def forward(loss: ReconstructionLoss, *arguments: Any) -> LossTerms:
            nonlocal calls
            calls += 1
            if calls == step:
                os.kill(os.getpid(), signal.SIGTERM)
            return original(loss, *arguments)

        monkeypatch.setattr(ReconstructionLoss, "forward", forward)

    return arm


@pytest.fixture
def other(all_runs: Runs) -> Callable[[Run], Run]:
    """The one run beside a given one."""

    def find(known: Run) -> Run:
        run, = (run for run in all_runs() if run.info.run_id != known.info.run_id)
        return run

    return find


@pytest.mark.parametrize("step", [1, 3, 4, 6], ids=["first step", "inside an epoch", "end of an epoch", "last step"])
def test_a_run_that_was_stopped_ends_like_one_that_was_not(
        step: int, train: Command, inversion: Command, all_runs: Runs, other: Callable[[Run], Run],
        stop_at_step: Callable[[int], None]) -> None:
    assert train(epochs=3, batch_size=2).code == 0
    undisturbed, = all_runs()
    stop_at_step(step)
    assert train(epochs=3, batch_size=2).code == 130
    stopped = other(undisturbed)
    assert (stopped.info.status, stopped.data.tags["inversion.failure"]) == ("KILLED", "interrupted")
    outcome = inversion("train", "--resume", stopped.info.run_id)
    assert (outcome.code, outcome.err) == (0, "")
    resumed = other(undisturbed)
    assert "inversion.failure" not in resumed.data.tags
    assert "inversion.failure_message" not in resumed.data.tags
    assert_same(Numbers(resumed), Numbers(undisturbed))


def test_without_its_local_folder_a_run_goes_on_from_the_uploaded_checkpoint(
        train: Command, inversion: Command, all_runs: Runs, other: Callable[[Run], Run],
        stop_at_step: Callable[[int], None]) -> None:
    assert train(epochs=3, batch_size=2).code == 0
    undisturbed, = all_runs()
    stop_at_step(5)
    assert train(epochs=3, batch_size=2).code == 130
    stopped = other(undisturbed)
    local = Path(stopped.data.params["data_dir"]) / "runs" / stopped.info.run_id
    assert (local / "last.pt").is_file()
    shutil.rmtree(local)
    stop_at_step(3)  # two steps are left: it would be hit if training began anew
    assert inversion("train", "--resume", stopped.info.run_id).code == 0
    assert_same(Numbers(other(undisturbed)), Numbers(undisturbed))


def test_a_run_can_be_stopped_and_resumed_again_and_again(
        train: Command, inversion: Command, all_runs: Runs, other: Callable[[Run], Run],
        stop_at_step: Callable[[int], None]) -> None:
    assert train(epochs=2, batch_size=2).code == 0
    undisturbed, = all_runs()
    stop_at_step(1)
    assert train(epochs=2, batch_size=2).code == 130
    run_id = other(undisturbed).info.run_id
    for _ in range(2 * STEPS - 1):
        stop_at_step(1)
        assert inversion("train", "--resume", run_id).code == 130
    stop_at_step(1)  # no step is left
    assert inversion("train", "--resume", run_id).code == 0
    assert_same(Numbers(other(undisturbed)), Numbers(undisturbed))


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str], seconds: float = 60) -> None:
    """Waits until it holds; fails when the process ends or time runs out before."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.05)


def epochs_logged(all_runs: Runs) -> int:
    """Of the latest run."""
    runs = all_runs()
    return len(MlflowClient().get_metric_history(runs[0].info.run_id, "val/loss")) if runs else 0


def test_a_process_ended_by_sigterm_is_resumed_to_the_same_numbers(
        start: Callable[..., subprocess.Popen[str]], train_words: Command, train: Command, inversion: Command,
        all_runs: Runs, other: Callable[[Run], Run]) -> None:
    process = start(*train_words(epochs=60))
    wait_for(lambda: epochs_logged(all_runs) >= 3, process)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.startswith("error: stopped after step ")
    assert len(err.splitlines()) == 1
    assert "Traceback" not in out
    stopped, = all_runs()
    assert stopped.info.status == "KILLED"
    assert 3 <= epochs_logged(all_runs) < 60
    assert inversion("train", "--resume", stopped.info.run_id).code == 0
    resumed, = all_runs()
    assert train(epochs=60).code == 0
    assert_same(Numbers(resumed), Numbers(other(resumed)))


def test_a_process_that_was_killed_outright_is_found_by_doctor_and_resumed(
        start: Callable[..., subprocess.Popen[str]], train_words: Command, train: Command, inversion: Command,
        all_runs: Runs, other: Callable[[Run], Run]) -> None:
    process = start(*train_words(epochs=60))
    wait_for(lambda: epochs_logged(all_runs) >= 3, process)
    process.send_signal(signal.SIGSTOP)  # so that it is not done before everybody has looked at it
    run_id = all_runs()[0].info.run_id

    outcome = inversion("doctor")
    assert outcome.code == 0, outcome.err
    assert f"process {process.pid} on " in " ".join(outcome.out.split())
    assert "alive" in outcome.out
    assert all_runs()[0].info.status == "RUNNING"
    refused = inversion("train", "--resume", run_id)
    assert (refused.code, refused.err) == (
        2, f"error: run {run_id} is in progress in process {process.pid}. Stop that first.\n")

    process.kill()
    process.wait()
    assert all_runs()[0].info.status == "RUNNING"
    outcome = inversion("doctor")
    assert outcome.code == 0, outcome.err
    assert "ended as KILLED" in outcome.out
    killed, = all_runs()
    assert killed.info.status == "KILLED"
    assert killed.data.tags["inversion.failure"] == "interrupted"
    assert f"process {process.pid} on " in killed.data.tags["inversion.failure_message"]
    assert "no run is RUNNING" in inversion("doctor").out

    outcome = inversion("train", "--resume", run_id)
    assert outcome.code == 0, outcome.err
    resumed, = all_runs()
    assert train(epochs=60).code == 0
    assert_same(Numbers(resumed), Numbers(other(resumed)))


def refused(outcome: Any) -> str:
    assert outcome.code == 2, outcome.err
    assert len(outcome.err.splitlines()) == 1
    return str(outcome.err)


def test_a_run_that_does_not_exist_is_not_resumed(inversion: Command, workplace: Path) -> None:
    assert "has no run '0123456789abcdef'" in refused(inversion("train", "--resume", "0123456789abcdef"))


def test_a_run_of_another_program_is_not_resumed(inversion: Command, all_runs: Runs, workplace: Path) -> None:
    client = MlflowClient(f"sqlite:///{workplace}/mlflow.db")
    run_id = client.create_run("0").info.run_id
    assert "was not created by inversion" in refused(inversion("train", "--resume", run_id))
    assert all_runs()[0].info.status == "RUNNING"


def test_where_nobody_here_can_look_a_run_is_not_resumed_before_it_is_ended(
        train: Command, inversion: Command, all_runs: Runs, stop_at_step: Callable[[int], None]) -> None:
    """Unknown is not dead: it may train on another host, or in another container of this one."""
    stop_at_step(1)
    assert train(batch_size=2).code == 130
    stopped, = all_runs()
    client, run_id = MlflowClient(), stopped.info.run_id
    for owner, where in (({HOST: "elsewhere", PID: "17"}, "process 17 on elsewhere: look there, with inversion doctor"),
                         ({NAMESPACE: "pid:[7]"}, "in another container or another machine of that name")):
        for key, value in (owner_tags() | owner).items():
            client.set_tag(run_id, key, value)
        client.update_run(run_id, status="RUNNING")
        before = all_runs()[0]
        told = refused(inversion("train", "--resume", run_id))
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
    assert "is RUNNING, and whether its process is alive cannot" in refused(inversion("train", "--resume", run_id))
    assert all_runs()[0].data.tags[HOST] == "elsewhere"


def test_a_process_whose_run_was_taken_over_writes_nothing_more(
        train: Command, all_runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was called dead by `doctor --end`, and another machine goes on with it."""
    monkeypatch.setattr("inversion.tracking.tracked_run.CONFIRM_SECONDS", 0)
    log = TrackedRun.log_metrics

    def take_away(run: TrackedRun, metrics: Any, step: int = 0) -> None:
        log(run, metrics, step)
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

    def delete(run: TrackedRun, metrics: Any, step: int = 0) -> None:
        if step == 1:
            run.client.delete_run(run.run_id)
            if for_good:
                run.client._tracking_client.store._hard_delete_run(run.run_id)
        log(run, metrics, step)

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
    assert restore in refused(inversion("train", "--resume", run.info.run_id))
    assert restore in refused(inversion("evaluate", run.info.run_id))


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
    told = refused(train())
    assert f"run {run_id} is {status}" in told
    run, = all_runs()
    assert (run.info.status, run.data.params) == (status, {})


def test_a_finished_run_is_not_resumed(train: Command, inversion: Command, all_runs: Runs) -> None:
    assert train().code == 0
    run, = all_runs()
    assert "is FINISHED" in refused(inversion("train", "--resume", run.info.run_id))
    assert all_runs()[0].info.status == "FINISHED"


def test_a_run_whose_photographs_changed_is_not_resumed(
        train: Command, inversion: Command, all_runs: Runs, stop_at_step: Callable[[int], None],
        photo_folder: Path, workplace: Path) -> None:
    photos = shutil.copytree(photo_folder, workplace / "photos")
    stop_at_step(1)
    assert train(data=photos, epochs=3).code == 130
    shutil.copy(photos / "train" / "train0.png", photos / "train" / "train1.png")
    run, = all_runs()
    assert "photographs" in refused(inversion("train", "--resume", run.info.run_id))
    assert all_runs()[0].data.tags == run.data.tags
    assert all_runs()[0].info.status == "KILLED"


@pytest.fixture
def stopped(train: Command, all_runs: Runs, stop_at_step: Callable[[int], None]) -> tuple[Run, list[Path]]:
    """A run that was stopped in its second epoch, and its checkpoint here and among its artifacts."""
    stop_at_step(STEPS + 1)
    assert train(epochs=3, batch_size=2).code == 130
    run, = all_runs()
    here = Path(run.data.params["data_dir"]) / "runs" / run.info.run_id / "last.pt"
    return run, [here, Path(run.info.artifact_uri) / "checkpoints" / "last.pt"]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def forget_schedule(path: Path) -> None:
    content = torch.load(path, weights_only=True)
    del content["schedule"]
    torch.save(content, path)


@pytest.mark.parametrize(("damage", "says"), [
    (truncate, "it is damaged"), (forget_schedule, "schedule is missing"),
    (lambda path: path.write_bytes(b""), "it is damaged"),
], ids=["cut", "without its schedule", "empty"])
def test_damaged_checkpoints_are_named_with_what_can_be_done(
        stopped: tuple[Run, list[Path]], damage: Callable[[Path], object], says: str, inversion: Command,
        all_runs: Runs) -> None:
    run, checkpoints = stopped
    for path in checkpoints:
        damage(path)
    outcome = inversion("train", "--resume", run.info.run_id)
    assert outcome.code == 1
    assert len(outcome.err.splitlines()) == 1
    assert f"run {run.info.run_id} cannot be gone on with" in outcome.err
    assert "last.pt" in outcome.err
    assert says in outcome.err
    assert "Train its configuration anew, without --resume" in outcome.err
    assert "checkpoints/best.pt" in outcome.err
    failed, = all_runs()
    assert (failed.info.status, failed.data.tags["inversion.failure"]) == ("FAILED", "checkpoint")


def test_where_one_checkpoint_is_damaged_the_other_is_gone_on_from(
        stopped: tuple[Run, list[Path]], inversion: Command, all_runs: Runs, caplog: pytest.LogCaptureFixture) -> None:
    run, (here, _) = stopped
    forget_schedule(here)
    assert inversion("train", "--resume", run.info.run_id).code == 0
    assert "passed over: the checkpoint" in caplog.text
    resumed, = all_runs()
    assert Numbers(resumed).epochs == [1, 2, 3]
