"""Where the queue lies, how it is opened, and how long a worker waits for it."""

from __future__ import annotations

import logging
import socket
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from sqlalchemy.exc import OperationalError

from inversion.errors import RequestError
from inversion.sweeps.queue import storage as storage_module
from inversion.sweeps.queue.storage import (
    QueueLostError,
    grace_from_environment,
    open_storage,
    patiently,
    set_grace,
    storage_url,
)

DOWN = OperationalError("select 1", {}, Exception("server closed the connection\nand more"))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The present folder, with the user's data elsewhere."""
    monkeypatch.setenv("INVERSION_DATA", str(tmp_path / "data"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return (tmp_path / "here").resolve()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made: time passes in them and nowhere else."""
    pauses: list[float] = []
    monkeypatch.setattr("inversion.sweeps.queue.storage.time.monotonic", lambda: sum(pauses))
    monkeypatch.setattr("inversion.sweeps.queue.storage.time.sleep", pauses.append)
    return pauses


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_a_fresh_database_opens_in_six_processes_at_once(
        database: str, tmp_path: Path, request: pytest.FixtureRequest, at_once: Callable[..., list[Any]]) -> None:
    """Alone, five of them would find tables that the first is just making."""
    url = (f"sqlite:///{tmp_path}/new folder/queue.db" if database == "sqlite"
           else request.getfixturevalue("make_postgres")())
    assert at_once(6, lambda: url, lambda url: optuna.get_all_study_names(open_storage(url))) == [[]] * 6


@pytest.mark.parametrize(("given", "url"), [
    ("runs.db", "sqlite:///{here}/runs.db"),
    ("../runs.db", "sqlite:///{above}/runs.db"),
    ("/tmp/runs.db", "sqlite:////tmp/runs.db"),
    ("sqlite:///runs.db", "sqlite:///{here}/runs.db"),
    ("sqlite:////tmp/runs.db", "sqlite:////tmp/runs.db"),
    ("postgres://me:secret@host/runs", "postgresql://me:secret@host/runs"),
    ("postgresql://me@host:5433/runs", "postgresql://me@host:5433/runs"),
    ("postgresql+psycopg://me@host/runs", "postgresql+psycopg://me@host/runs"),
])
def test_a_given_queue_is_a_file_or_a_postgresql_database(given: str, url: str, here: Path) -> None:
    assert storage_url(given, "sqlite:///mlflow.db") == url.format(here=here, above=here.parent)


@pytest.mark.parametrize("given", ["mysql://me:secret@host/runs", "mysql+pymysql://me:secret@host/runs",
                                   "mssql://me:secret@host/runs", "redis://me:secret@host", "http://me:secret@host"])
def test_other_databases_are_refused_in_one_line_without_the_password(given: str, here: Path) -> None:
    with pytest.raises(RequestError) as caught:
        storage_url(given, "sqlite:///mlflow.db")
    message = str(caught.value)
    assert message.startswith(f"--storage {given.partition(':')[0]}://me:***@host")
    assert "sqlite:///FILE" in message
    assert "postgresql://USER@HOST/DATABASE" in message
    assert "secret" not in message
    assert "\n" not in message


@pytest.mark.parametrize(("tracking", "url"), [
    ("sqlite:///mlflow.db", "sqlite:///{here}/inversion-queue.db"),
    ("sqlite:///sub/mlflow.db?timeout=3", "sqlite:///{here}/sub/inversion-queue.db"),
    ("sqlite:////srv/mlflow.db", "sqlite:////srv/inversion-queue.db"),
    ("mlruns", "sqlite:///{here}/inversion-queue.db"),
    ("/srv/mlruns", "sqlite:////srv/inversion-queue.db"),
    ("file:///srv/mlruns", "sqlite:////srv/inversion-queue.db"),
    ("http://host:5000", "sqlite:///{above}/data/queues/host_5000/inversion-queue.db"),
    ("https://me:secret@host/mlflow/", "sqlite:///{above}/data/queues/me_____host_mlflow/inversion-queue.db"),
    ("postgresql://me:secret@host/runs", "sqlite:///{above}/data/queues/me_____host_runs/inversion-queue.db"),
])
def test_a_queue_that_is_not_given_is_a_file_beside_the_tracking_store_or_in_the_users_data(
        tracking: str, url: str, here: Path) -> None:
    assert storage_url(None, tracking) == url.format(here=here, above=here.parent) == storage_url("", tracking)


@pytest.mark.parametrize("place", ["file/queue.db", "folder", "text.db"])
def test_a_file_that_cannot_be_opened_is_one_clear_line(place: str, here: Path) -> None:
    (here / "file").write_text("in place of a folder")
    (here / "folder").mkdir()
    (here / "text.db").write_text("this is no database" * 100)
    with pytest.raises(RequestError, match=r"queue sqlite:///.* cannot be opened: .*\. Give another --stor.*$") as no:
        open_storage(f"sqlite:///{here}/{place}")
    assert "\n" not in str(no.value)


@pytest.mark.parametrize("url", ["postgresql://me:secret@127.0.0.1:1/runs", "postgresql://me:secret@127.0.0.1:x/runs",
                                 "postgresql+nonsense://me:secret@127.0.0.1/runs",
                                 "postgresql://me:sec/ret@127.0.0.1:1/runs",
                                 "postgresql://127.0.0.1:1/runs?user=me&password=secret"])
def test_a_database_that_cannot_be_opened_is_one_clear_line_without_the_password(url: str) -> None:
    with pytest.raises(RequestError, match=r"queue postgresql.* cannot be opened: .* Give another --storage\.$") as no:
        open_storage(url)
    assert "sec" not in str(no.value)
    assert "\n" not in str(no.value)


def test_a_database_that_takes_connections_and_says_nothing_is_told_within_seconds(
        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inversion.tracking.locks.CONNECT_SECONDS", 2)  # the least that PostgreSQL's drivers allow
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        with pytest.raises(RequestError, match=r"cannot be opened: .*timeout"):
            open_storage(f"postgresql://127.0.0.1:{silent.getsockname()[1]}/runs")
    assert time.monotonic() - began < 8


def test_a_driver_that_is_missing_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(RequestError, match=r"psycopg.* Install it with: pip install 'inversion\[postgresql\]'\."):
        open_storage("postgresql://me@host/runs")


def test_an_sqlite_queue_can_be_read_while_it_is_written(bench: Any) -> None:
    """A write-ahead log; without it a table that is looked at every second stands in the workers' way."""
    bench.open()
    with closing(sqlite3.connect(bench.url.removeprefix("sqlite:///"))) as database:
        assert database.execute("pragma journal_mode").fetchone() == ("wal",)


def test_a_worker_may_miss_several_signs_of_life(bench: Any) -> None:
    storage = bench.storage()
    assert (storage.get_heartbeat_interval(), storage.grace_period) == (15, 90)
    for seconds in (3, 10, 60):
        set_grace(storage, seconds)
        assert storage.grace_period == seconds
        assert storage.get_heartbeat_interval() >= 1
        assert storage.get_heartbeat_interval() * 3 <= seconds


def test_the_grace_period_is_90_seconds_or_what_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("INVERSION_GRACE_SECONDS", raising=False)
    assert grace_from_environment() == 90
    monkeypatch.setenv("INVERSION_GRACE_SECONDS", "3")
    assert grace_from_environment() == 3


@pytest.mark.parametrize("text", ["2", "0", "-5", "1.5", "soon", "", "86401", "9" * 20, "9²"])
def test_a_grace_period_that_cannot_be_kept_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INVERSION_GRACE_SECONDS", text)
    with pytest.raises(RequestError, match=f"INVERSION_GRACE_SECONDS: '{text}' is not allowed"):
        grace_from_environment()


@pytest.mark.parametrize("error", [DOWN, StorageInternalError("the database is locked")])
def test_a_database_that_does_not_answer_is_asked_again(
        error: Exception, clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    answers: list[Exception | int] = [error, error, error, 7]

    def call() -> int:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    with caplog.at_level(logging.WARNING):
        assert patiently(call, "claiming a run") == 7
    assert clock == [1.0, 2.0, 4.0]
    assert [record.getMessage() for record in caplog.records] == [
        "the queue's database does not answer (claiming a run); retrying"] * 3


@pytest.mark.parametrize("error", [DOWN, StorageInternalError("server closed the connection\nand more")])
def test_a_database_that_does_not_come_back_is_given_up_after_some_minutes(
        error: Exception, clock: list[float]) -> None:
    def call() -> None:
        raise error

    with pytest.raises(QueueLostError, match=r"does not answer \(claiming a run\): .*server closed the conn.*$") as no:
        patiently(call, "claiming a run")
    assert "\n" not in str(no.value)
    assert no.value.kind == "queue_lost"
    assert storage_module.RETRY_SECONDS - max(clock) <= sum(clock) <= storage_module.RETRY_SECONDS
    assert max(clock) == 20.0


@pytest.mark.parametrize("error", [UpdateFinishedTrialError("lost"), KeyError("no such trial"), ValueError("wrong")])
def test_other_errors_are_not_waited_for(error: Exception, clock: list[float]) -> None:
    def call() -> None:
        raise error

    with pytest.raises(type(error)):
        patiently(call, "claiming a run")
    assert clock == []
