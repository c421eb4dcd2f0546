"""The lock of a database keeps processes apart, wherever they stand, and never outlives them."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from inversion.errors import RequestError
from inversion.tracking.address import absolute
from inversion.tracking.connection import Connection as Tracking
from inversion.tracking.connection import connect
from inversion.tracking.locks import exclusive_lock
from inversion.tracking.ownership import PID, claim_run, owner_tags

LONG = 10.0
SHORT = 0.5
"""Seconds: no process needs the one to get a lock that is free, and none that waits gets it in the other."""


def hold(url: str, pipe: Connection) -> None:
    with exclusive_lock(url):
        pipe.send("held")
        time.sleep(600)


def take(url: str, pipe: Connection) -> None:
    with exclusive_lock(url):
        pipe.send("taken")


def waits(wanted: str, held: str, patience: float = SHORT) -> bool:
    """Whether a process that wants one lock waits for the process that holds the other, until that is killed."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    holder = context.Process(target=hold, args=(held, theirs))
    waiter = context.Process(target=take, args=(wanted, theirs))
    holder.start()
    try:
        assert ours.poll(LONG)
        assert ours.recv() == "held"
        waiter.start()
        had_to_wait = not ours.poll(patience)
        holder.kill()
        assert ours.poll(LONG), "a dead process still holds the lock"
        assert ours.recv() == "taken"
        waiter.join()
        return had_to_wait
    finally:
        for process in (holder, waiter):
            with suppress(AttributeError, AssertionError, ValueError):
                process.kill()
                process.join()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/queue.db" if request.param == "sqlite" else request.getfixturevalue("postgres")


def test_only_one_process_is_in_the_block(url: str, at_once: Callable[..., list[Any]], tmp_path: Path) -> None:
    """Reading and writing again in two steps loses counts, unless nobody is in between."""
    file = tmp_path / "count"
    file.write_text("0")

    def count(_: object) -> None:
        for _ in range(5):
            with exclusive_lock(url):
                number = int(file.read_text())
                time.sleep(0.002)
                file.write_text(str(number + 1))

    at_once(4, lambda: None, count)
    assert file.read_text() == "20"


def test_who_is_killed_gives_the_lock_back(url: str) -> None:
    assert waits(url, held=url)


def test_an_sqlite_file_has_one_lock_from_wherever_it_is_named(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    assert waits("sqlite:///queue.db", held=f"sqlite:///{tmp_path}/here/queue.db")
    assert waits(f"sqlite:///{tmp_path}/link/../here/queue.db", held="sqlite:///queue.db")


def test_a_lock_lies_where_everybody_looks_who_opens_the_same_database(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of temporary files differs from shell to shell."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "nowhere"))
    monkeypatch.setenv("INVERSION_DATA", str(tmp_path / "data"))
    with exclusive_lock(f"sqlite:///{tmp_path}/queue.db"), exclusive_lock("http://host:5000"):
        assert (tmp_path / "queue.db.lock").is_file()
        lock, = (tmp_path / "data" / "locks").iterdir()
        assert lock.suffix == ".lock"


def test_a_database_in_a_folder_that_can_only_be_read_can_be_read(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INVERSION_DATA", str(tmp_path / "data"))
    monkeypatch.setattr("inversion.tracking.locks.os.access", lambda place, mode: False)
    with exclusive_lock(f"sqlite:///{tmp_path}/queue.db"):
        assert not (tmp_path / "queue.db.lock").exists()


def test_other_databases_have_locks_of_their_own(url: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    other = (f"sqlite:///{tmp_path}/other.db" if url.startswith("sqlite")
             else request.getfixturevalue("make_postgres")())
    assert not waits(other, held=url, patience=LONG)


@pytest.mark.parametrize(("given", "same"), [
    ("sqlite:///a.db", "sqlite:///{here}/a.db"),
    ("sqlite:///../a.db?timeout=3", "sqlite:///{above}/a.db?timeout=3"),
    ("sqlite:////tmp/a.db", "sqlite:////tmp/a.db"),
    ("sqlite:///:memory:", "sqlite:///:memory:"),
    ("sqlite://", "sqlite://"),
    ("postgresql:///runs", "postgresql:///runs"),
    ("http://host:5000", "http://host:5000"),
    ("mlruns", "mlruns"),
])
def test_an_address_means_the_same_file_in_every_folder(
        given: str, same: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute(given) == same.format(here=tmp_path.resolve(), above=tmp_path.resolve().parent)


def test_of_processes_that_resume_the_same_run_at_once_one_gets_it(
        at_once: Callable[..., list[Any]], workplace: Path) -> None:
    connection = connect()
    dead = owner_tags() | {PID: "4194305"}
    run_id = connection.client.create_run(connection.experiment_id, tags=dead).info.run_id
    connection.client.set_terminated(run_id, "KILLED")
    connection.client._tracking_client.store.engine.dispose()
    all_have_tried = multiprocessing.get_context("fork").Barrier(3)

    def take_over(tracking: Tracking) -> str:
        try:
            claim_run(tracking, run_id)
            return "taken"
        except RequestError as error:
            return str(error)
        finally:
            all_have_tried.wait(60)  # until then whoever has it is alive

    told = at_once(3, connect, take_over)
    assert told.count("taken") == 1
    owner = connection.client.get_run(run_id).data.tags[PID]
    assert set(told) - {"taken"} == {f"run {run_id} is in progress in process {owner}. Stop that first."}
