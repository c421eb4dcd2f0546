"""The Optuna storage of a queue: its address, opening it, atomic claims on SQLite, and retries."""

from __future__ import annotations

import logging
import os
import re
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

import optuna
from optuna.exceptions import ExperimentalWarning, OptunaError
from optuna.storages import RDBStorage
from sqlalchemy import create_engine, event, inspect
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from inversion.data.datasets import default_data_dir
from inversion.errors import InversionError, RequestError
from inversion.files import is_there
from inversion.tracking import locks
from inversion.tracking.address import install_hint, is_same_database, is_server, read_queue, sqlite_file, sqlite_url
from inversion.tracking.connection import is_tracking_store
from inversion.tracking.locks import exclusive_lock
from inversion.tracking.masking import without_password
from inversion.tracking.silence import end_silent_waits
from inversion.tracking.store_errors import is_lost, is_refused, reason
from inversion.training.stop import StopRequest

FILE_NAME = "inversion-queue.db"
BUSY_SECONDS = 60
BUSY_SLICE_SECONDS = 1.0
"""SQLite waits for a lock in slices of this length; between them, a stop is noticed."""

RETRY_SECONDS = 300.0
"""How long a worker retries while the database does not answer; MLflow's client retries about as long."""

APART = "MLflow's and Optuna's tables cannot be in the same database: give another --storage."
GRACE_SECONDS = 90
GRACE_VARIABLE = "INVERSION_GRACE_SECONDS"
"""Seconds without a heartbeat after which other workers take over a run; a study keeps its first value."""

DAY = 86_400

KEEPALIVE = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 30_000}
"""With these, libpq notices within half a minute that the server is unreachable; the system's default is hours."""

T = TypeVar("T")
_logger = logging.getLogger(__name__)


class QueueLostError(InversionError):
    """The queue's database became unreachable; the checkpoints of its runs are safe."""

    kind = "queue_lost"


class QueueRefusedError(InversionError):
    """The queue's database rejects a request: no permission, no such table, no space."""

    kind = "queue_refused"


def grace_from_environment() -> int:
    """Seconds without a heartbeat after which a worker counts as dead: 90, or the environment variable's value.

    Raises:
        RequestError: the value is not a number of seconds.
    """
    text = os.environ.get(GRACE_VARIABLE, str(GRACE_SECONDS))
    if not (re.fullmatch("[0-9]{1,5}", text) and 3 <= int(text) <= DAY):
        raise RequestError(f"{GRACE_VARIABLE}: {text!r} is not allowed. Allowed: a whole number of seconds, 3 or more, "
                           f"at most {DAY}.")
    return int(text)


def set_grace(storage: RDBStorage, seconds: int) -> None:
    """Sets the grace period, and a heartbeat interval so short that several may be lost in it."""
    storage.heartbeat_interval = max(1, seconds // 6)
    storage.grace_period = seconds


@contextmanager
def knowingly_experimental() -> Iterator[None]:
    """Suppresses Optuna's warnings that heartbeats are experimental: the tests cover what is used."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield


def storage_url(given: str | None, tracking_uri: str) -> str:
    """The address of the queue's database: the given one, or a file beside the tracking store.

    For a tracking server, the file is in the user's data folder, with the server's name.

    Raises:
        RequestError: the address is malformed, or a database on which Optuna's claims are not known to be atomic.
    """
    if given:
        return read_queue(given)
    if file := sqlite_file(tracking_uri):
        return sqlite_url(file.with_name(FILE_NAME))
    if not is_server(tracking_uri):
        return sqlite_url(Path(unquote(tracking_uri.removeprefix("file://"))).resolve().with_name(FILE_NAME))
    server = "".join(c if c.isalnum() or c in ".-" else "_" for c in without_password(tracking_uri).partition("://")[2])
    return sqlite_url(default_data_dir().resolve() / "queues" / server.strip("_") / FILE_NAME)


def open_storage(url: str, reading: bool = False, stop: StopRequest | None = None) -> RDBStorage:
    """Opens Optuna's storage with heartbeats; creates it if it does not exist, in one process at a time.

    Args:
        url: the address of the database.
        reading: whether only to read. On SQLite, readers and writers then do not wait for each other.
        stop: ends every wait for a locked database.

    Raises:
        RequestError: the database cannot be opened.
        InterruptedRunError: a stop was requested while another process holds the lock.
    """
    options: dict[str, Any] = {"connect_args": _limits(url)} if _is_sqlite(url) else {
        "pool_pre_ping": True, "connect_args": {**_limits(url), **KEEPALIVE}}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    require_queue(url)
    with _request_errors(url):
        if file := sqlite_file(url):
            file.parent.mkdir(parents=True, exist_ok=True)
        with exclusive_lock(url, stop), knowingly_experimental():
            storage = RDBStorage(url, engine_kwargs=options, heartbeat_interval=1)
    set_grace(storage, GRACE_SECONDS)
    if _is_sqlite(url):
        _make_atomic(storage, partial(_begin, "BEGIN" if reading else "BEGIN IMMEDIATE", stop))
    return storage


def require_queue(url: str) -> None:
    """Raises a RequestError if a database cannot be opened, or has MLflow's tables; creates nothing."""
    file = sqlite_file(url)
    if file is not None and not is_there(file):
        return
    end_silent_waits()
    with _request_errors(url), create_engine(
            url, poolclass=NullPool, connect_args=_limits(url)).connect() as database:
        if is_tracking_store(database):
            raise RequestError(f"queue {without_password(url)} is the database of an MLflow tracking store. {APART}")


def require_apart(given: str | None, tracking_uri: str) -> None:
    """Raises a RequestError if the queue would be the tracking store's own database; creates nothing."""
    url = storage_url(given, tracking_uri)
    if is_same_database(url, tracking_uri):
        name = f"--storage {without_password(given)}" if given else f"the default queue {url}"
        raise RequestError(f"{name} is the tracking store's own database. {APART}")


def require_place(given: str | None, tracking_uri: str) -> str:
    """The address of a queue that is there or can be made, apart from the tracking store; creates neither.

    Raises:
        RequestError: it is the tracking store's own database, that of another one, or cannot be opened.
    """
    require_apart(given, tracking_uri)
    url = storage_url(given, tracking_uri)
    require_queue(url)
    return url


def has_studies(url: str) -> bool:
    """Whether a database has a queue's tables. Readers check this first, because opening a storage creates them."""
    try:
        return bool(inspect(create_engine(url, poolclass=NullPool, connect_args=_limits(url))).has_table("studies"))
    except (SQLAlchemyError, ImportError, ValueError):  # opening it reports the error
        return True


def has_queue(url: str) -> bool:
    """Whether a queue's database exists and has its tables; creates neither, as opening a storage would.

    Raises:
        RequestError: it cannot be opened, or is that of a tracking store.
    """
    file = sqlite_file(url)
    require_queue(url)
    return (file is None or is_there(file)) and has_studies(url)


def patiently(call: Callable[[], T], what: str, stop: StopRequest | None = None) -> T:
    """Calls a function, and again while the database does not answer, for some minutes or until a stop is requested.

    After a stop there is one attempt: a run is released if that works, and is recovered after its lease otherwise.

    Args:
        call: the function, which uses the queue.
        what: what it does, for error messages: ``claiming a run``.
        stop: ends the retries.

    Raises:
        QueueLostError: the database did not answer for ``RETRY_SECONDS``.
        QueueRefusedError: it rejects the request.
        InterruptedRunError: it does not answer, and a stop was requested.
    """
    deadline, pause = time.monotonic() + RETRY_SECONDS, 1.0
    while True:
        try:
            return call()
        except Exception as error:
            if is_refused(error):
                raise QueueRefusedError(f"the queue's database rejects the request ({what}): {reason(error)}"
                                        ) from error
            if not is_lost(error):
                raise
            failure = f"the queue's database does not answer ({what})"
            if stop is not None:
                stop.raise_in_wait(f"{failure}: {reason(error)}")
            if time.monotonic() + pause > deadline:
                raise QueueLostError(f"{failure}: {reason(error)}") from error
            _logger.warning("%s; retrying", failure)
            if stop is None:
                time.sleep(pause)
            else:
                stop.wait(pause)
                stop.raise_in_wait(f"{failure}: {reason(error)}")
            pause = min(2 * pause, 20.0)


@contextmanager
def _request_errors(url: str) -> Iterator[None]:
    """Converts errors of opening a database.

    Raises:
        RequestError: the database cannot be opened.
    """
    try:
        yield
    except (SQLAlchemyError, OptunaError, OSError, RuntimeError, ImportError, ValueError) as error:
        raise RequestError(f"queue {without_password(url)} cannot be opened: {reason(error)}."
                           f"{install_hint(error)} Give another --storage.") from error


def _limits(url: str) -> dict[str, int]:
    """Options of the driver that limit how long it waits for a database."""
    return {"timeout": BUSY_SECONDS} if _is_sqlite(url) else {"connect_timeout": locks.CONNECT_SECONDS}


def _is_sqlite(url: str) -> bool:
    return url.startswith("sqlite:")


def _make_atomic(storage: RDBStorage, begin: Callable[[Any], None]) -> None:
    """Makes Optuna's read-then-write atomic on SQLite, by transactions that take the write lock at their beginning.

    Optuna relies on SELECT … FOR UPDATE, which SQLite ignores, so two workers could claim the same waiting trial.
    https://docs.sqlalchemy.org/en/20/dialects/sqlite.html#serializable-isolation-savepoints-transactional-ddl
    """

    @event.listens_for(storage.engine, "connect")
    def on_connect(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # otherwise Python's driver begins transactions itself, too late
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute(f"PRAGMA busy_timeout={round(1000 * min(BUSY_SLICE_SECONDS, BUSY_SECONDS))}")

    @event.listens_for(storage.engine, "begin")
    def on_begin(connection: Any) -> None:
        begin(connection)

    storage.engine.dispose()  # closes earlier connections


def _begin(statement: str, stop: StopRequest | None, connection: Any) -> None:
    """Begins a transaction; retries while others write, for ``BUSY_SECONDS`` or until a stop is requested."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.exec_driver_sql(statement)
            return
        except OperationalError as error:
            busy = str(getattr(error.orig, "sqlite_errorname", "")).startswith("SQLITE_BUSY")
            stopped = stop is not None and stop.reason is not None
            if not busy or stopped or time.monotonic() > deadline:
                raise
