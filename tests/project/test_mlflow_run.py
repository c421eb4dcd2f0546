"""Real ``mlflow run`` processes: the run that MLflow made is the run that is trained, whatever happens to it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from inversion.cli.app import cli, run_command
from inversion.config.device import choose_precision
from inversion.config.run_config import RunConfig
from inversion.tracking.grouping import GROUPING

Begin = Callable[..., subprocess.Popen[str]]
Runs = Callable[[], list[Run]]
STOPS_WITHIN = 15
"""Seconds from the death of ``mlflow run`` to the end of the run: to notice it, finish a step and upload."""


@pytest.fixture
def odd_weights(workplace: Path, frozen: Callable[..., torch.nn.Module]) -> Path:
    """A file of VGG16's first weights with a space in its name."""
    file = workplace / "a b.pth"
    torch.save(frozen("vgg16:block1", 32).trunk_state(), file)  # type: ignore[operator]
    return file


def test_the_run_of_mlflow_run_is_adopted_and_raw_and_resolved_values_stand_in_it(
        mlflow_run: Begin, all_runs: Runs, odd_weights: Path, photo_folder: Path) -> None:
    process = mlflow_run(weights=f"vgg16={odd_weights}", lr="1e-3", decoder="transposed_conv")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "PSNR" in out
    assert "the run is in the experiment Default; with `mlflow run --experiment-name inversion` it is beside" in out
    assert f"view the run: http://127.0.0.1:5000/#/experiments/0/runs/{all_runs()[0].info.run_id}?" in out
    run, = all_runs()
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "vgg16:block1+transposed_conv"
    tags, params = run.data.tags, run.data.params
    assert tags["mlflow.project.entryPoint"] == "main"
    assert tags["inversion.kind"] == "run"
    assert run.data.metrics["test/psnr"] > 0
    assert {name for name in params if not name.startswith("resolved.")} == {*RunConfig.model_fields, *GROUPING}
    assert [params[name] for name in GROUPING] == ["vgg16", "block1", "none"]
    assert (params["layer"], params["lr"], params["threads"]) == ("auto", "1e-3", "2")
    resolved = {name.removeprefix("resolved."): value for name, value in params.items() if "resolved." in name}
    assert resolved == {"layer": "block1", "fusion": "none", "device": "cpu", "lpips_weight": "0.0",
                        "precision": choose_precision("auto", "cpu"), "data_dir": resolved["data_dir"]}
    assert params["data"] == f"'{photo_folder}'"  # as MLflow quotes it
    assert params["weights"] == f"'vgg16={odd_weights}'"
    history = MlflowClient().get_metric_history(run.info.run_id, "val/loss")
    assert [metric.step for metric in history] == [1]


def errors(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("error:")]


@pytest.mark.parametrize(("parameters", "said"), [
    ({"learning_rate": "1e-3"}, "No such option '--learning_rate'. Did you mean '--lr'?"),
    pytest.param({"optimizer": "sgd"}, "No such option '--optimizer': there is none here; the optimiser is always Adam",
                 marks=pytest.mark.acceptance),
    pytest.param({"image_size": "100"}, "image_size: '100' is not allowed", marks=pytest.mark.acceptance),
    pytest.param({"data": "/no/such folder"}, "/no/such folder", marks=pytest.mark.acceptance),
])
def test_a_wrong_request_ends_in_one_line_and_in_a_failed_run_that_is_named_after_it(
        parameters: dict[str, str], said: str, mlflow_run: Begin, all_runs: Runs) -> None:
    process = mlflow_run(**parameters)
    out, err = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "Traceback" not in out + err
    line, = errors(err)
    assert said in line
    run, = all_runs()  # MLflow had created it before it looked at the request
    assert run.info.status == "FAILED"
    assert run.info.run_name.startswith("not started: ")
    assert said[:20] in run.info.run_name
    assert run.data.tags["inversion.failure"] == "request"
    assert said in run.data.tags["inversion.failure_message"]


def test_the_run_that_mlflow_run_leaves_without_conda_is_ended_by_doctor(
        start: Begin, root: Path, all_runs: Runs, monkeypatch: pytest.MonkeyPatch, workplace: Path,
        capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("MLFLOW_CONDA_HOME", str(workplace / "no conda"))
    process = start("mlflow", "run", str(root))
    assert process.wait(timeout=120) != 0
    run, = all_runs()
    assert run.info.status == "RUNNING"
    assert run_command(cli, ["doctor"]) == 0
    assert "ended as KILLED" in capsys.readouterr().out
    run, = all_runs()
    assert run.info.status == "KILLED"
    assert "mlflow run" in run.data.tags["inversion.failure_message"]


def wait_for(condition: Callable[[], object], seconds: float) -> float:
    """Waits until it holds; returns how long that took."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < seconds, "it took too long"
        time.sleep(0.1)
    return time.monotonic() - begun


@pytest.mark.acceptance
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_when_mlflow_run_is_killed_its_training_stops_safely_and_can_be_resumed(
        number: signal.Signals, mlflow_run: Begin, all_runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    process = mlflow_run("--experiment-name", "inversion", epochs="200")
    client = MlflowClient()

    def epochs() -> int:
        return max((len(client.get_metric_history(run.info.run_id, "val/loss")) for run in all_runs()), default=0)

    wait_for(lambda: epochs() >= 3, 90)
    run, = all_runs()
    child = psutil.Process(int(run.data.tags["inversion.pid"]))
    child.suspend()  # it looks for its parent once a second, and a fast machine might finish until then
    process.send_signal(number)
    process.wait(timeout=10)
    assert child.is_running()  # MLflow does not stop what it started
    child.resume()
    wait_for(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, STOPS_WITHIN)
    run, = all_runs()
    assert run.info.status == "KILLED"
    assert run.data.tags["inversion.failure"] == "interrupted"
    why = f"`mlflow run` that started it (process {process.pid}) was killed"
    assert why in run.data.tags["inversion.failure_message"]
    saved = torch.load(Path(run.info.artifact_uri) / "checkpoints" / "last.pt", weights_only=True)["progress"]
    stopped_after = epochs()
    assert saved["epoch"] == stopped_after < 200

    assert run_command(cli, ["train", "--resume", run.info.run_id]) == 0, capsys.readouterr().err
    run, = all_runs()
    assert run.info.status == "FINISHED"
    assert "inversion.failure" not in run.data.tags
    steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "val/loss")]
    assert steps == list(range(1, 201))
    assert run.data.metrics["epochs_run"] == 200


@pytest.mark.acceptance
def test_ctrl_c_ends_mlflow_run_and_its_training(mlflow_run: Begin, all_runs: Runs) -> None:
    process = mlflow_run(epochs="2000")
    client = MlflowClient()
    wait_for(lambda: any(client.get_metric_history(run.info.run_id, "val/loss") for run in all_runs()), 90)
    os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to the whole group
    _, err = process.communicate(timeout=30)
    assert len(errors(err)) == 1
    run, = all_runs()
    # MLflow 3.17 overwrites KILLED with FAILED when its command ends with another code than 0; the tag stays.
    assert run.info.status in ("KILLED", "FAILED")
    assert run.data.tags["inversion.failure"] == "interrupted"
    assert run.data.tags["inversion.failure_message"].startswith("stopped after step ")
