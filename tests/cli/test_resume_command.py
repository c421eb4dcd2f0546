"""``--resume``: a run that was stopped anywhere ends like one that was not, in the same MLflow run."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from inversion.cli.app import cli, run_command

Command = Callable[..., Any]
Runs = Callable[[], list[Run]]

STEPS = 2
"""The photographs make two batches of two."""
EPOCHS = 6
HELD = """
import pathlib, time
from inversion.cli import main
from inversion.losses.reconstruction import ReconstructionLoss
forward, steps = ReconstructionLoss.forward, 0
def hold(*arguments):
    global steps
    steps += 1
    if steps == 4:
        pathlib.Path("held").touch()
        while not pathlib.Path("go").exists():
            time.sleep(0.01)
    return forward(*arguments)
ReconstructionLoss.forward = hold
main()
"""
"""A command that makes a file ``held`` in its fourth step and waits there for ``go``, so that it is not done before."""
OF_THE_CLOCK = {"images_per_second", "train_seconds", "eval_seconds", "eval_further_seconds",
                "inference_ms_per_image", "train_peak_memory_mb", "eval_peak_memory_mb"}


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


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, train_words: Command,
                enter_workplace: Callable[[Path, pytest.MonkeyPatch], None]) -> Callable[..., Numbers]:
    """``undisturbed(epochs=3)``: the same run in one go, in its own workplace; trained once per configuration."""

    @cache
    def train_once(**parameters: object) -> Numbers:
        folder = tmp_path_factory.mktemp("undisturbed")
        with pytest.MonkeyPatch.context() as patch:
            enter_workplace(folder, patch)
            assert run_command(cli, train_words(**parameters)[3:]) == 0
            client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
            run, = client.search_runs([e.experiment_id for e in client.search_experiments()])
            return Numbers(run)

    return train_once


@pytest.mark.parametrize("step", [1, 3, 4, 6], ids=["first step", "inside an epoch", "end of an epoch", "last step"])
def test_a_run_that_was_stopped_ends_like_one_that_was_not(
        step: int, train: Command, inversion: Command, all_runs: Runs, undisturbed: Callable[..., Numbers],
        stop_at_step: Callable[[int], None]) -> None:
    stop_at_step(step)
    assert train(epochs=3, batch_size=2).code == 130
    stopped, = all_runs()
    assert (stopped.info.status, stopped.data.tags["inversion.failure"]) == ("KILLED", "interrupted")
    outcome = inversion("train", "--resume", stopped.info.run_id)
    assert (outcome.code, outcome.err) == (0, "")
    resumed, = all_runs()
    assert "inversion.failure" not in resumed.data.tags
    assert "inversion.failure_message" not in resumed.data.tags
    assert_same(Numbers(resumed), undisturbed(epochs=3, batch_size=2))


def test_without_its_local_folder_a_run_goes_on_from_the_uploaded_checkpoint(
        train: Command, inversion: Command, all_runs: Runs, undisturbed: Callable[..., Numbers],
        stop_at_step: Callable[[int], None]) -> None:
    expected = undisturbed(epochs=3, batch_size=2)  # before a stop is armed
    stop_at_step(5)
    assert train(epochs=3, batch_size=2).code == 130
    stopped, = all_runs()
    local = Path(stopped.data.params["data_dir"]) / "runs" / stopped.info.run_id
    assert (local / "last.pt").is_file()
    shutil.rmtree(local)
    stop_at_step(3)  # two steps are left: it would be hit if training began anew
    assert inversion("train", "--resume", stopped.info.run_id).code == 0
    assert_same(Numbers(all_runs()[0]), expected)


def test_a_run_can_be_stopped_and_resumed_again_and_again(
        train: Command, inversion: Command, all_runs: Runs, undisturbed: Callable[..., Numbers],
        stop_at_step: Callable[[int], None]) -> None:
    expected = undisturbed(epochs=2, batch_size=2)  # before a stop is armed
    stop_at_step(1)
    assert train(epochs=2, batch_size=2).code == 130
    run_id = all_runs()[0].info.run_id
    for _ in range(2 * STEPS - 1):
        stop_at_step(1)
        assert inversion("train", "--resume", run_id).code == 130
    stop_at_step(1)  # no step is left
    assert inversion("train", "--resume", run_id).code == 0
    assert_same(Numbers(all_runs()[0]), expected)


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
        start: Callable[..., subprocess.Popen[str]], workplace: Path, train_words: Command, inversion: Command,
        all_runs: Runs, undisturbed: Callable[..., Numbers]) -> None:
    process = start(sys.executable, "-c", HELD, *train_words(epochs=EPOCHS)[3:])
    wait_for(lambda: (workplace / "held").exists() and epochs_logged(all_runs) >= 3, process)
    process.send_signal(signal.SIGTERM)
    (workplace / "go").touch()
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.startswith("error: stopped after step ")
    assert len(err.splitlines()) == 1
    assert "Traceback" not in out
    stopped, = all_runs()
    assert stopped.info.status == "KILLED"
    assert 3 <= epochs_logged(all_runs) < EPOCHS
    assert inversion("train", "--resume", stopped.info.run_id).code == 0
    resumed, = all_runs()
    assert_same(Numbers(resumed), undisturbed(epochs=EPOCHS))


def test_a_process_that_was_killed_outright_is_found_by_doctor_and_resumed(
        start: Callable[..., subprocess.Popen[str]], workplace: Path, train_words: Command, inversion: Command,
        all_runs: Runs, undisturbed: Callable[..., Numbers]) -> None:
    process = start(sys.executable, "-c", HELD, *train_words(epochs=EPOCHS)[3:])
    wait_for(lambda: (workplace / "held").exists() and epochs_logged(all_runs) >= 3, process)
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
    assert_same(Numbers(resumed), undisturbed(epochs=EPOCHS))


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
    assert f"run {run.info.run_id} cannot be resumed" in outcome.err
    assert "last.pt" in outcome.err
    assert says in outcome.err
    assert "Train its configuration again, without --resume" in outcome.err
    assert "checkpoints/best.pt" in outcome.err
    failed, = all_runs()
    assert (failed.info.status, failed.data.tags["inversion.failure"]) == ("FAILED", "checkpoint")


def test_where_one_checkpoint_is_damaged_the_other_is_gone_on_from(
        stopped: tuple[Run, list[Path]], inversion: Command, all_runs: Runs, caplog: pytest.LogCaptureFixture) -> None:
    run, (here, _) = stopped
    forget_schedule(here)
    assert inversion("train", "--resume", run.info.run_id).code == 0
    assert "skipped: the checkpoint" in caplog.text
    resumed, = all_runs()
    assert Numbers(resumed).epochs == [1, 2, 3]


def test_a_finished_run_that_is_extended_is_the_run_of_more_epochs(
        train: Command, inversion: Command, all_runs: Runs, undisturbed: Callable[..., Numbers],
        stop_at_step: Callable[[int], None]) -> None:
    expected = undisturbed(epochs=3, batch_size=2)
    assert train(epochs=1, batch_size=2).code == 0
    short, = all_runs()
    stop_at_step(3)  # in the third epoch: the first one is not trained again, and is two steps
    stopped = inversion("train", "--resume", "vgg16:block1+transposed_conv", "--epochs", "3")
    assert stopped.code == 130, stopped.err
    longer, = (run for run in all_runs() if run.info.run_id != short.info.run_id)
    assert longer.data.tags["inversion.extends"] == short.info.run_id
    assert longer.data.params["epochs"] == "3"
    assert inversion("train", "--resume", longer.info.run_id).code == 0
    now = {run.info.run_id: run for run in all_runs()}
    assert_same(Numbers(now[longer.info.run_id]), expected)
    assert now[short.info.run_id].to_dictionary() == short.to_dictionary()


def test_a_damaged_checkpoint_is_not_extended_and_named_as_the_runs(
        train: Command, inversion: Command, all_runs: Runs) -> None:
    assert train(epochs=1).code == 0
    run, = all_runs()
    last = Path(run.info.artifact_uri, "checkpoints", "last.pt")
    for damage, says in ((forget_schedule, "the checkpoint checkpoints/last.pt is damaged, or was made by another "
                                           "version: schedule is missing"),
                         (truncate, "cannot read the checkpoint checkpoints/last.pt: it is damaged")):
        damage(last)
        outcome = inversion("train", "--resume", run.info.run_id, "--epochs", "2")
        assert outcome.code == 1
        assert f"run {run.info.run_id} cannot be extended: {says}" in outcome.err
        assert len(all_runs()) == 1


def test_a_run_whose_longer_form_it_does_not_begin_is_not_extended(
        train: Command, inversion: Command, all_runs: Runs, stop_at_step: Callable[[int], None]) -> None:
    assert train(epochs=1, schedule="cosine").code == 0
    cosine, = all_runs()
    assert "whose learning rate depends on the number of epochs from the first on" in inversion(
        "train", "--resume", cosine.info.run_id, "--epochs", "2").refused()
    assert train(epochs=2, decoder="linear", lr=1e-30, min_lr=1e-30, patience=1).code == 0  # no epoch is better
    early = next(run for run in all_runs() if run.info.run_id != cosine.info.run_id)
    assert "ended by early stopping after epoch 2 (patience=1): with more epochs it would be the same" in inversion(
        "train", "--resume", early.info.run_id, "--epochs", "3").refused()
    assert "has 2 epochs: --epochs 2 would not extend it" in inversion(
        "train", "--resume", early.info.run_id, "--epochs", "2").refused()
    stop_at_step(1)
    assert train(epochs=2).code == 130
    stopped = next(run for run in all_runs() if run.info.status == "KILLED")
    assert "is KILLED: only a FINISHED run is extended" in inversion(
        "train", "--resume", stopped.info.run_id, "--epochs", "3").refused()
    assert len(all_runs()) == 3


@pytest.mark.acceptance
def test_a_process_whose_server_hangs_is_ended_by_sigterm_and_resumed(
        start: Callable[..., subprocess.Popen[str]], workplace: Path, train_words: Command, inversion: Command,
        stand_in: Any) -> None:
    words = train_words(epochs=EPOCHS, tracking_uri=stand_in.address)
    process = start(sys.executable, "-c", HELD, *words[3:])
    wait_for((workplace / "held").exists, process)
    client = MlflowClient(stand_in.address)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    run, = client.search_runs(experiments, "status = 'RUNNING'")
    stand_in.hang()
    process.send_signal(signal.SIGTERM)
    (workplace / "go").touch()
    began = time.monotonic()
    _, err = process.communicate(timeout=100)
    assert time.monotonic() - began < 60
    assert "the tracking server accepts requests and does not answer" in err
    assert "Traceback" not in err
    stand_in.heal()
    outcome = inversion("train", "--resume", run.info.run_id, "--tracking-uri", stand_in.address)
    assert outcome.code == 0, outcome.err
    assert client.get_run(run.info.run_id).info.status == "FINISHED"
