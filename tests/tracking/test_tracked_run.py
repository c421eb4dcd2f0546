"""What goes into MLflow under which name, and how a run begins and ends."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest
import requests
import torch
from mlflow.exceptions import MlflowException

from inversion.config.run_config import RunConfig, parse_config
from inversion.errors import InterruptedRunError, MissingArtifactError, NonFiniteError, RequestError
from inversion.files import safe_name
from inversion.runs.train import checkpoint_to_resume
from inversion.tracking import results
from inversion.tracking.connection import Connection
from inversion.tracking.lifecycle import end_run
from inversion.tracking.pictures import square, strip
from inversion.tracking.store_errors import TrackingLostError
from inversion.tracking.tracked_run import begin_run, fail_project_run, params_to_log, record_outcome
from inversion.training.callbacks import Picture
from inversion.training.checkpoint import CheckpointError


def test_without_mlflow_run_every_parameter_is_logged_under_its_name() -> None:
    assert params_to_log(RunConfig().model_dump(), {}) == {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in RunConfig().model_dump().items()}


@pytest.mark.parametrize(("name", "raw", "resolved"), [
    ("lr", "1e-3", 0.001), ("lr", "0.001", 0.001), ("strict", "True", True), ("epochs", "3.0", 3),
    ("data", "'my photos'", "my photos"), ("data", "''", "auto"), ("weights", "''\"'\"'x'", "'x"),
])
def test_a_raw_text_that_means_the_value_is_left_alone(name: str, raw: str, resolved: object) -> None:
    config = parse_config({name: resolved})
    known = {other: str(value) for other, value in config.model_dump().items()} | {name: raw}
    expected = {} if raw != "''" else {"resolved.data": "auto"}
    assert params_to_log(config.model_dump(), known) == expected


@pytest.mark.parametrize(("name", "raw", "resolved"), [
    ("layer", "auto", "block1"), ("threads", "0", 4), ("data", "'my photos'", "/home/me/my photos"),
    ("data", "it's", "its"),
])
def test_a_raw_text_that_means_something_else_stays_beside_the_resolved_value(
        name: str, raw: str, resolved: object) -> None:
    config = parse_config({name: resolved})
    known = {other: str(value) for other, value in config.model_dump().items()} | {name: raw}
    assert params_to_log(config.model_dump(), known) == {f"resolved.{name}": str(resolved)}


def test_quoting_is_undone_as_mlflow_does_it() -> None:
    text = "a 'quoted' \"name\" $HOME"
    assert params_to_log(RunConfig(data=text).model_dump(), {"data": shlex.quote(text)} | {
        name: str(value) for name, value in RunConfig().model_dump().items() if name != "data"}) == {}


@pytest.mark.parametrize("data", ["photos", "it's mine", "a 'b' c", "back\\slash"])
def test_a_resumed_run_logs_no_parameter_again(data: str) -> None:
    config = parse_config({"layer": "block1", "data": data})
    known = {"layer": "auto"} | params_to_log(config.model_dump(), {"layer": "auto"})
    assert params_to_log(config.model_dump(), known) == {}


@pytest.mark.parametrize(("error", "status", "kind"), [
    (NonFiniteError("mse is not finite"), "FAILED", "nonfinite"),
    (InterruptedRunError("stopped"), "KILLED", "interrupted"),
    (KeyboardInterrupt(), "KILLED", "interrupted"),
    (ValueError("what"), "FAILED", "error"),
    (SystemExit(0), "FAILED", "error"),
])
def test_an_error_ends_the_run_with_its_reason(
        error: BaseException, status: str, kind: str, connection: Connection) -> None:
    run = begin_run(connection, "name")
    with pytest.raises(type(error)), record_outcome(run):
        raise error
    left = connection.client.get_run(run.run_id)
    assert (left.info.status, left.data.tags["inversion.failure"]) == (status, kind)
    assert left.data.tags["inversion.failure_message"]


def test_a_run_is_finished_only_when_its_block_is_done(connection: Connection) -> None:
    run = begin_run(connection, "name")
    with record_outcome(run):
        assert connection.client.get_run(run.run_id).info.status == "RUNNING"
    left = connection.client.get_run(run.run_id)
    assert left.info.status == "FINISHED"
    assert "inversion.failure" not in left.data.tags


def test_a_store_that_is_gone_does_not_hide_the_first_error(
        connection: Connection, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    run = begin_run(connection, "name")

    def refuse(*_: object) -> None:
        raise MlflowException("gone")

    monkeypatch.setattr(run, "end", refuse)
    with pytest.raises(NonFiniteError, match="first"), record_outcome(run):
        raise NonFiniteError("first")
    assert f"run {run.run_id} could not be ended as FAILED" in caplog.text


def test_a_store_that_gives_up_in_the_middle_ends_in_one_line_that_says_how_to_go_on(connection: Connection) -> None:
    run = begin_run(connection, "name")
    with pytest.raises(TrackingLostError, match=r"API request failed. .*resume with --resume") as caught, \
            record_outcome(run):
        raise MlflowException("API request failed.\nwith much more to say")
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 1


def test_a_run_killed_before_its_first_checkpoint_begins_anew(connection: Connection, tmp_path: Path) -> None:
    run = begin_run(connection, "name")
    assert checkpoint_to_resume(run, tmp_path) is None
    (tmp_path / "last.pt").write_bytes(b"damaged")
    with pytest.raises(CheckpointError):
        checkpoint_to_resume(run, tmp_path)


def test_the_sliders_picture_has_the_difference_below_the_original() -> None:
    original, reconstruction = torch.zeros(3, 2, 2), torch.ones(3, 2, 2)
    original[:, 0, 0] = 1
    picture = square(Picture.of("x", original, reconstruction))
    assert picture.shape == (4, 4, 3)
    assert picture[..., 0].tolist() == [[255, 0, 255, 255], [0, 0, 255, 255], [0, 255, 255, 255], [255, 255, 255, 255]]


def test_a_message_of_any_length_is_kept_as_far_as_mlflow_takes_it(connection: Connection) -> None:
    run = begin_run(connection, "name")
    run.end("FAILED", "error", "x" * 20_000)
    assert set(connection.client.get_run(run.run_id).data.tags["inversion.failure_message"]) == {"x"}


def test_an_epoch_that_is_told_again_is_logged_once(connection: Connection) -> None:
    run = begin_run(connection, "name")
    run.on_epoch(1, {"val/loss": 0.5})
    run.on_epoch(1, {"val/loss": 0.5})
    resumed = begin_run(connection, "name", resume=run.run_id)
    resumed.on_epoch(1, {"val/loss": 0.5})
    resumed.on_epoch(2, {"val/loss": 0.25})
    history = connection.client.get_metric_history(run.run_id, "val/loss")
    assert [(metric.step, metric.value) for metric in history] == [(1, 0.5), (2, 0.25)]


def test_checkpoints_are_uploaded_first_then_once_a_minute_and_last(
        connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, now, file = begin_run(connection, "name"), [1000.0], tmp_path / "last.pt"
    monkeypatch.setattr("inversion.tracking.tracked_run.time.monotonic", lambda: now[0])

    def uploaded(content: str, seconds: float, final: bool = False) -> str:
        now[0] += seconds
        file.write_text(content)
        run.on_checkpoint([file], final)
        return run.download("checkpoints/last.pt", tmp_path / "back").read_text()

    assert uploaded("a", 0) == "a"
    assert uploaded("b", 59) == "a"
    assert uploaded("c", 1) == "c"
    assert uploaded("d", 1) == "c"
    assert uploaded("e", 1, final=True) == "e"


def test_an_artifact_that_is_not_there_is_named(connection: Connection, tmp_path: Path) -> None:
    run = begin_run(connection, "name")
    with pytest.raises(MissingArtifactError, match=r"no artifact checkpoints/last\.pt"):
        run.download("checkpoints/last.pt", tmp_path)


def test_a_checkpoint_that_cannot_be_fetched_now_is_not_taken_for_none(
        connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beginning anew would throw away what was trained."""
    run = begin_run(connection, "name")
    (tmp_path / "last.pt").write_bytes(b"a checkpoint")
    run.upload([tmp_path / "last.pt"], "checkpoints")

    def lose(*_: object) -> None:
        raise requests.ConnectionError("reset by peer")

    monkeypatch.setattr(connection.client, "download_artifacts", lose)
    with pytest.raises(requests.ConnectionError):
        checkpoint_to_resume(run, tmp_path / "work")


def test_a_run_that_was_taken_for_dead_and_finishes_is_told_as_finished(connection: Connection) -> None:
    run = begin_run(connection, "name")
    with record_outcome(run):
        end_run(connection.client, run.run_id, "KILLED", "interrupted", "found dead")
    left = connection.client.get_run(run.run_id)
    assert left.info.status == "FINISHED"
    assert not {"inversion.failure", "inversion.failure_message"} & left.data.tags.keys()


def test_a_run_that_mlflow_run_made_is_failed_once_and_only_while_it_runs(
        connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = connection.client.create_run(connection.experiment_id).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    fail_project_run(RequestError("unknown encoder"))
    fail_project_run(RequestError("something later"))
    left = connection.client.get_run(run_id)
    assert (left.info.status, left.data.tags["inversion.failure"]) == ("FAILED", "request")
    assert left.data.tags["inversion.failure_message"] == "unknown encoder"


def test_a_picture_is_original_reconstruction_and_difference_side_by_side() -> None:
    original, reconstruction = torch.full((3, 4, 4), 0.75), torch.full((3, 4, 4), 0.25)
    picture = strip(Picture.of("x", original, reconstruction))
    assert (picture.shape, picture.dtype) == ((4, 12, 3), np.uint8)
    assert [int(picture[0, column, 0]) for column in (0, 4, 8)] == [191, 64, 127]


@pytest.mark.parametrize(("name", "safe"), [("IMG_1.2-a b", "IMG_1.2-a b"), ("é(1)#%+:/", "__1______")])
def test_names_keep_only_what_mlflow_takes(name: str, safe: str) -> None:
    assert safe_name(name) == safe


def test_a_model_asks_for_the_versions_that_pypi_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """No index but PyTorch's own has ``2.14.1+cu124``."""
    installed = {"torch": "2.14.1+cu124", "torchvision": "0.29.1+cpu", "timm": "1.0.22.dev0"}
    monkeypatch.setattr(results, "version", lambda package: installed.get(package, "1.2.3"))
    wanted = dict(line.split("==") for line in results.requirements())
    assert (wanted["torch"], wanted["torchvision"], wanted["timm"]) == ("2.14.1", "0.29.1", "1.0.22.dev0")
    assert set(wanted) == set(results.REQUIREMENTS)
