"""MLflow's old stores in folders of files: which store is taken, and how to bring their runs into a database."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from mlflow.store.tracking.file_store import FileStore

from inversion.tracking import file_store
from inversion.tracking.connection import connect
from inversion.tracking.store_errors import NoTrackingError

LOGGER = "inversion.tracking.file_store"


@pytest.fixture
def old_store(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``mlruns`` with one run, as MLflow wrote it before databases were its default, and no ``mlflow.db``."""
    (workplace / "mlflow.db").unlink()
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    folder = workplace / "mlruns"
    run = FileStore(folder.as_uri(), folder.as_uri()).create_run("0", "me", 0, [], "old")
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE")
    assert file_store.a_run_of(folder) == run.info.run_id
    return folder


def notes(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == LOGGER]


@pytest.mark.parametrize("given", [None, "mlruns", "./mlruns", "file:mlruns", "file://{folder}"])
def test_it_is_refused_with_the_command_that_migrates_it(given: str | None, old_store: Path) -> None:
    with pytest.raises(NoTrackingError, match=r"is an old file store, which MLflow no longer opens") as caught:
        connect(given and given.format(folder=old_store))
    message = str(caught.value)
    assert message.startswith(f"tracking store file://{old_store} ")
    assert f"mlflow migrate-filestore --source {old_store} --target sqlite:///{old_store.parent}/mlflow.db" in message
    assert not (old_store.parent / "mlflow.db").exists()


@pytest.mark.acceptance
def test_the_command_does_what_it_says_and_the_database_is_taken_from_then_on(
        old_store: Path, start: Callable[..., subprocess.Popen[str]], caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(NoTrackingError) as caught:
        connect()
    command = re.search(r"mlflow migrate-filestore [^;]+", str(caught.value))
    assert command is not None
    process = start(*shlex.split(command[0]))
    assert process.wait(120) == 0
    run_id = file_store.a_run_of(old_store)
    assert run_id is not None
    connection = connect()
    assert connection.uri == f"sqlite:///{old_store.parent}/mlflow.db"
    assert connection.client.get_run(run_id).info.run_name == "old"
    assert notes(caplog) == []


def test_a_database_beside_it_is_taken_and_the_old_runs_are_told_of(
        old_store: Path, caplog: pytest.LogCaptureFixture) -> None:
    database = old_store.with_name("mlflow.db")
    connect(f"sqlite:///{database}")
    assert notes(caplog) == [], "who names a store knows which one it is"
    mlflow.set_tracking_uri(None)  # type: ignore[arg-type]  # as another process would find it
    assert connect().uri == f"sqlite:///{database}"
    note, = notes(caplog)
    assert f"does not have the runs of the old file store {old_store}" in note
    assert note.endswith(f"--target sqlite:///{old_store.parent}/mlruns.db")


def test_where_mlflow_opens_it_it_is_taken_and_told_of(
        old_store: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    assert connect().uri == f"file://{old_store}"
    note, = notes(caplog)
    assert "using the old file store in this folder" in note


def test_a_folder_that_is_none_is_refused_with_what_to_give(workplace: Path) -> None:
    with pytest.raises(NoTrackingError, match=rf"MLflow wants a database: give sqlite:///{workplace}/new/mlflow\.db"):
        connect("new")
    assert not (workplace / "new").exists()
