"""Stores that refuse fail a run and not its worker; a wait for one that is away ends with a stop."""

from __future__ import annotations

import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from mlflow.tracking import MlflowClient
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError, ProgrammingError

from inversion.errors import InterruptedRunError, InversionError
from inversion.sweeps.queue.queue import Queue, Queued
from inversion.sweeps.queue.storage import QueueLostError, QueueRefusedError, open_storage, patiently
from inversion.sweeps.workers import worker as worker_module
from inversion.sweeps.workers.local import WorkerSpec
from inversion.sweeps.workers.worker import work
from inversion.tracking import retry
from inversion.tracking.connection import connect
from inversion.tracking.locks import exclusive_lock
from inversion.tracking.retry import with_retries
from inversion.tracking.store_errors import TrackingLostError
from inversion.training.stop import StopRequest

DOWN = OperationalError("select 1", {}, Exception("server closed the connection"))
FORBIDDEN = ProgrammingError("insert", {}, type("InsufficientPrivilege", (Exception,), {"sqlstate": "42501"})("no"))


@pytest.fixture
def study(lab: Any, queued: Callable[..., None], stand_in: Any) -> Callable[..., Any]:
    """``study(text)``: a study on a server that can refuse, queued; returns the worker_spec to work on it."""

    def queue(text: str, **base: object) -> WorkerSpec:
        queued(text, "--tracking-uri", stand_in.address, "--storage", lab.folder / "queue.db",
               "--experiment", lab.folder.parent.name, **base)
        return WorkerSpec("tiny", f"sqlite:///{lab.folder}/queue.db", stand_in.address, lab.folder.parent.name)

    return queue


def states(lab: Any) -> list[str]:
    """The state of each run in the queue, with why it failed."""
    from inversion.sweeps.study.study import open_study

    study = open_study(open_storage(f"sqlite:///{lab.folder}/queue.db"), "tiny")
    return [entry.failure if entry.state == "failed" else entry.state for entry in study.queue.entries()]


@pytest.mark.acceptance
@pytest.mark.alone
def test_an_upload_that_is_refused_fails_that_run_and_the_next_one_is_done(
        lab: Any, study: Callable[..., WorkerSpec], stand_in: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    worker_spec = study("grid:\n  - decoder: [transposed_conv, wavelet]", epochs=1)
    stand_in.refuse(413, "PUT", "last.pt", times=1)
    stand_in.refuse(429, "POST", "log-batch", times=1)
    work(worker_spec, StopRequest())
    failed, finished = states(lab)
    assert finished == "finished"
    assert failed.startswith("tracking_refused: the tracking store rejects the request: PUT http://127.0.0.1:")
    assert "checkpoints/last.pt: HTTP 413" in failed
    assert "client_max_body_size" in failed
    client = MlflowClient(stand_in.address)
    experiment = client.get_experiment_by_name(worker_spec.experiment)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], "tags.`inversion.kind` = 'run'")
    assert sorted(run.info.status for run in runs) == ["FAILED", "FINISHED"]
    told, = (run.data.tags["inversion.failure_message"] for run in runs if run.info.status == "FAILED")
    assert f"tracking_refused: {told}" == failed


def test_a_server_on_which_nothing_can_be_logged_leaves_the_reason_in_the_queue_and_the_other_runs_alone(
        lab: Any, study: Callable[..., WorkerSpec], stand_in: Any) -> None:
    worker_spec = study("grid:\n  - decoder: [transposed_conv, wavelet]\n    seed: [0, 1]", epochs=1)
    stand_in.refuse(403, "POST", "runs/create")
    with pytest.raises(InversionError, match=r"3 runs in a row could not be started on this machine.*HTTP 403"):
        work(worker_spec, StopRequest())
    *failed, left = states(lab)
    assert left == "queued"
    assert len(failed) == 3
    assert all("runs/create: HTTP 403" in each for each in failed)


def test_a_server_that_comes_back_and_refuses_ends_the_worker_with_that(
        study: Callable[..., WorkerSpec], stand_in: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    worker_spec = study("grid:\n  - decoder: [wavelet]", epochs=1)

    def lose(*_: Any) -> Any:
        stand_in.refuse(401)
        raise TrackingLostError("died in the middle of an answer")

    monkeypatch.setattr(worker_module, "train_steps", lose)
    with pytest.raises(InversionError, match=r"rejects the request: .*HTTP 401"):
        work(worker_spec, StopRequest())


@pytest.fixture
def limited(postgres: str) -> Iterator[str]:
    """The address of a queue with a waiting run, for a role that may read there and nothing else."""
    from optuna import create_study

    storage = open_storage(postgres)
    Queue(storage, create_study(storage=storage, study_name="tiny", direction="maximize")).add([Queued("run", {}, "d")])
    storage.engine.dispose()
    engine = create_engine(postgres, isolation_level="AUTOCOMMIT")
    role = postgres.rpartition("/")[2] + "_reader"
    with engine.connect() as connection:
        connection.execute(text(f"create role {role} login"))
        connection.execute(text(f"grant select on all tables in schema public to {role}"))
        yield postgres.replace("//", f"//{role}@")
        connection.execute(text(f"drop owned by {role}"))
        connection.execute(text(f"drop role {role}"))
    engine.dispose()


def test_a_queue_that_forbids_to_write_is_told_at_once_with_the_reason(limited: str) -> None:
    from optuna import load_study

    storage = open_storage(limited)
    queue = Queue(storage, load_study(storage=storage, study_name="tiny"))
    began = time.monotonic()
    with pytest.raises(QueueRefusedError, match=r"refuses \(claiming a run\): permission denied for table trial_hear"):
        patiently(queue.claim, "claiming a run")
    assert time.monotonic() - began < 20
    storage.engine.dispose()


def test_a_refusal_is_not_waited_for() -> None:
    def call() -> None:
        raise FORBIDDEN

    with pytest.raises(QueueRefusedError, match=r"the queue's database refuses \(storing a result\): no"):
        patiently(call, "storing a result")


def test_the_wait_for_a_queue_ends_with_a_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inversion.sweeps.queue.storage.RETRY_SECONDS", 1e9)
    stop, asked = StopRequest(), threading.Event()
    ended: list[BaseException] = []

    def call() -> None:
        asked.set()
        raise DOWN

    def wait() -> None:
        try:
            patiently(call, "claiming a run", stop)
        except InterruptedRunError as error:
            ended.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    assert asked.wait(30)
    stop.set("SIGTERM received")
    thread.join(30)
    assert not thread.is_alive()
    assert str(ended[0]).startswith("SIGTERM received, while the queue's database does not answer (claiming a run): ")


def test_after_a_stop_a_queue_is_asked_once_more_to_take_a_run_back() -> None:
    stop, answers = StopRequest(), iter([DOWN])
    stop.set("SIGTERM received")
    assert patiently(lambda: 7, "storing how a run ended", stop) == 7

    def call() -> None:
        raise next(answers)

    with pytest.raises(InterruptedRunError):
        patiently(call, "storing how a run ended", stop)
    assert list(answers) == []


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Somebody else writes to an SQLite database and does not end."""
    with closing(sqlite3.connect(file, isolation_level=None)) as database:
        database.execute("begin immediate")
        yield


def ends_within(seconds: float, call: Callable[[], object], stop: StopRequest, after: float = 0.5) -> Exception:
    """What a call raises that waits, once it is asked to stop a moment later."""
    timer = threading.Timer(after, lambda: stop.set("SIGTERM received"))
    timer.start()
    began = time.monotonic()
    with pytest.raises((InterruptedRunError, QueueLostError)) as caught:
        call()
    assert time.monotonic() - began < seconds
    assert stop.reason is not None, "it did not wait at all"
    timer.join()
    return caught.value


def test_the_wait_for_a_database_that_is_locked_ends_with_a_stop(bench: Any) -> None:
    stop = StopRequest()
    bench.open().add([Queued("run", {}, "digest")])
    storage = open_storage(bench.url, stop=stop)
    queue = Queue(storage, bench.open().study, stop)
    with locked(Path(bench.url.removeprefix("sqlite:///"))):
        error = ends_within(20, lambda: patiently(queue.claim, "claiming a run", stop), stop)
    assert "database is locked" in str(error)
    storage.engine.dispose()


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_the_wait_for_a_lock_ends_with_a_stop(
        database: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inversion.tracking.locks.STOP_GRACE_SECONDS", 0.2)
    url = f"sqlite:///{tmp_path}/queue.db" if database == "sqlite" else request.getfixturevalue("postgres")
    stop = StopRequest()

    def enter() -> None:
        with exclusive_lock(url, stop):
            pytest.fail("two hold the lock")

    with exclusive_lock(url):
        assert "another process holds the lock" in str(ends_within(20, enter, stop))
    with exclusive_lock(url, stop):  # it is free: whoever stops can give its run back
        pass


def test_whoever_reads_makes_no_lock_file_and_waits_for_one_that_is_there(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/queue.db"
    with exclusive_lock(url, create=False):
        assert list(tmp_path.iterdir()) == []
    with exclusive_lock(url):
        pass
    with exclusive_lock(url, create=False), pytest.raises(TimeoutError):
        FileLock(tmp_path / "queue.db.lock").acquire(timeout=0)


def test_a_client_asks_again_while_its_server_is_away_and_a_stop_ends_that(
        stand_in: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stop = StopRequest()
    client = with_retries(connect(stand_in.address), stop).client
    pauses: list[float] = []

    def wait(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            stand_in.heal()

    monkeypatch.setattr(stop, "wait", wait)
    stand_in.refuse(503)
    assert [each.name for each in client.search_experiments()]
    assert pauses == [1.0, 2.0]
    stand_in.down = True
    monkeypatch.setattr(stop, "wait", lambda seconds: stop.set("SIGINT received"))
    with pytest.raises(InterruptedRunError, match="SIGINT received, while the tracking store does not answer"):
        client.search_experiments()


def test_a_client_does_not_wait_for_what_its_server_refuses(stand_in: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stop = StopRequest()
    client = with_retries(connect(stand_in.address), stop).client
    monkeypatch.setattr(stop, "wait", lambda seconds: pytest.fail("waited"))
    stand_in.refuse(403)
    with pytest.raises(Exception, match="403"):
        client.search_experiments()


def test_a_client_gives_up_on_a_server_that_does_not_come_back(
        stand_in: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "RETRY_SECONDS", 0.5)
    client = with_retries(connect(stand_in.address), StopRequest()).client
    stand_in.refuse(503)
    with pytest.raises(Exception, match="503"):
        client.search_experiments()


@pytest.mark.acceptance
@pytest.mark.alone
def test_a_sweep_whose_queue_is_locked_is_ended_by_a_signal_and_goes_on_afterwards(lab: Any, long_spec: Path) -> None:
    process = lab.start(long_spec, "--side-by-side", 1)
    left = lab.results()
    lab.until(lambda: any((trial.last_step or 0) >= 2 for trial in left.trials), 120, process)
    with locked(lab.folder / "inversion-queue.db"):
        time.sleep(3)  # into the wait
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        out, err = process.communicate(timeout=100)
        assert time.monotonic() - began < 40, "the driver kills its workers after 60 seconds"
    assert process.returncode == 130, (out, err)
    assert "Traceback" not in out + err
    done = lab.finish(long_spec, "--side-by-side", 1)
    assert done.code == 0, done.err
    assert {run.info.status for run in left.everything} == {"FINISHED"}
    for run in left.by_digest.values():
        steps = [step for step, _ in left.history(run, "val/loss")]
        assert steps == list(range(1, len(steps) + 1))
