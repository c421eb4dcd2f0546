"""The Optuna storage that a study's queue lies in: which one, made once, and on SQLite with claims that are atomic."""

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
from inversion.tracking import locks
from inversion.tracking.address import install_hint, is_same_database, is_server, read_queue, sqlite_file, sqlite_url
from inversion.tracking.connection import is_tracking_store
from inversion.tracking.locks import exclusive_lock
from inversion.tracking.masking import without_password
from inversion.tracking.store_errors import is_lost, is_refused, reason
from inversion.training.stop import StopRequest

FILE_NAME = "inversion-queue.db"
BUSY_SECONDS = 60
BUSY_SLICE_SECONDS = 1.0
"""SQLite waits for a lock in pieces of this length: in between, a stop is seen."""

RETRY_SECONDS = 300.0
"""How long a worker waits for a database that does not answer, as MLflow's client does for its server."""

APART = "MLflow's and Optuna's tables do not go into one database: give another --storage."
GRACE_SECONDS = 90
GRACE_VARIABLE = "INVERSION_GRACE_SECONDS"
"""How long a worker may be silent before others take its run over; the study keeps what it was begun with."""
DAY = 86_400

SILENT_PEER = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 30_000}
"""libpq notices by these within half a minute that a machine or its network is gone; the system's default is hours."""

T = TypeVar("T")
_logger = logging.getLogger(__name__)


class QueueLostError(InversionError):
    """The queue's database stopped answering; runs are safe in their checkpoints."""

    kind = "queue_lost"


class QueueRefusedError(InversionError):
    """The queue's database answers and refuses: no permission, no such table, no room."""

    kind = "queue_refused"


def grace_from_environment() -> int:
    """Seconds of silence after which a worker counts as dead (90, or what the environment says).

    Raises:
        RequestError: what the environment says is no number of seconds.
    """
    text = os.environ.get(GRACE_VARIABLE, str(GRACE_SECONDS))
    if not (re.fullmatch("[0-9]{1,5}", text) and 3 <= int(text) <= DAY):
        raise RequestError(f"{GRACE_VARIABLE}: {text!r} is not allowed. Allowed: a whole number of seconds, 3 or more, "
                           f"at most {DAY}.")
    return int(text)


def set_grace(storage: RDBStorage, seconds: int) -> None:
    """Heartbeats come so often that several may be lost before a worker counts as dead."""
    storage.heartbeat_interval = max(1, seconds // 6)
    storage.grace_period = seconds


@contextmanager
def knowingly_experimental() -> Iterator[None]:
    """Heartbeats are experimental in Optuna: that is known, and tested here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield


def storage_url(given: str | None, tracking_uri: str) -> str:
    """The address of the queue's database: the given one, or a file beside the tracking store.

    A tracking server has no folder: the file is then in the user's data folder, under the server's name.

    Raises:
        RequestError: a database that Optuna's claims are not known to be atomic on.
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
    """Optuna's storage with heartbeats; made if it is not there, by one process at a time.

    ``reading`` opens it for looking only: on SQLite that does not wait for those who write, nor they for it. ``stop``
    ends every wait for a database that others keep locked.

    Raises:
        RequestError: the database cannot be opened; nothing was started.
    """
    options: dict[str, Any] = {"connect_args": _limits(url)} if _is_sqlite(url) else {
        "pool_pre_ping": True, "connect_args": {**_limits(url), **SILENT_PEER}}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    require_queue(url)
    with _refused_by_name(url):
        if file := sqlite_file(url):
            file.parent.mkdir(parents=True, exist_ok=True)
        with exclusive_lock(url, stop), knowingly_experimental():
            storage = RDBStorage(url, engine_kwargs=options, heartbeat_interval=1)
    set_grace(storage, GRACE_SECONDS)
    if _is_sqlite(url):
        _make_atomic(storage, partial(_begin, "BEGIN" if reading else "BEGIN IMMEDIATE", stop))
    return storage


def require_queue(url: str) -> None:
    """Raises a RequestError if a database cannot be opened, or has MLflow's tables; nothing is made there."""
    file = sqlite_file(url)
    if file is not None and not file.exists():
        return
    with _refused_by_name(url), create_engine(
            url, poolclass=NullPool, connect_args=_limits(url)).connect() as database:
        if is_tracking_store(database):
            raise RequestError(f"queue {without_password(url)} is the database of an MLflow tracking store. {APART}")


def require_apart(given: str | None, tracking_uri: str) -> None:
    """Raises a RequestError if a queue is to lie in the tracking store's own database; nothing is made there yet."""
    if given and is_same_database(read_queue(given), tracking_uri):
        raise RequestError(f"--storage {without_password(given)} is the tracking store's own database. {APART}")


def has_studies(url: str) -> bool:
    """Whether a database was a queue before: who only looks makes no tables in one that was not."""
    try:
        return bool(inspect(create_engine(url, poolclass=NullPool, connect_args=_limits(url))).has_table("studies"))
    except (SQLAlchemyError, ImportError, ValueError):  # opening it says why
        return True


def patiently(call: Callable[[], T], what: str, stop: StopRequest | None = None) -> T:
    """Tries again while the database does not answer, for some minutes, or until somebody asks to stop.

    After a stop it is asked once: a run is given back if that is possible, and else recovered when its lease is over.

    Raises:
        QueueLostError: it did not come back.
        QueueRefusedError: it answers, and refuses.
        InterruptedRunError: it does not answer, and somebody asked to stop.
    """
    deadline, pause = time.monotonic() + RETRY_SECONDS, 1.0
    while True:
        try:
            return call()
        except Exception as error:
            if is_refused(error):
                raise QueueRefusedError(f"the queue's database refuses ({what}): {reason(error)}") from error
            if not is_lost(error):
                raise
            silence = f"the queue's database does not answer ({what})"
            if stop is not None:
                stop.raise_in_wait(f"{silence}: {reason(error)}")
            if time.monotonic() + pause > deadline:
                raise QueueLostError(f"{silence}: {reason(error)}") from error
            _logger.warning("%s: trying again", silence)
            if stop is None:
                time.sleep(pause)
            else:
                stop.wait(pause)
                stop.raise_in_wait(f"{silence}: {reason(error)}")
            pause = min(2 * pause, 20.0)


@contextmanager
def _refused_by_name(url: str) -> Iterator[None]:
    """Raises a RequestError for what keeps a database from being opened."""
    try:
        yield
    except (SQLAlchemyError, OptunaError, OSError, RuntimeError, ImportError, ValueError) as error:
        raise RequestError(f"queue {without_password(url)} cannot be opened: {reason(error)}."
                           f"{install_hint(error)} Give another --storage.") from error


def _limits(url: str) -> dict[str, int]:
    """How long the driver waits for a database."""
    return {"timeout": BUSY_SECONDS} if _is_sqlite(url) else {"connect_timeout": locks.CONNECT_SECONDS}


def _is_sqlite(url: str) -> bool:
    return url.startswith("sqlite:")


def _make_atomic(storage: RDBStorage, begin: Callable[[Any], None]) -> None:
    """Makes Optuna's read-then-write a transaction that excludes others from its beginning.

    Optuna relies on SELECT … FOR UPDATE, which SQLite ignores: two workers then take the same waiting trial.
    https://docs.sqlalchemy.org/en/20/dialects/sqlite.html#serializable-isolation-savepoints-transactional-ddl
    """

    @event.listens_for(storage.engine, "connect")
    def on_connect(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # Python's driver would begin transactions of its own, too late
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute(f"PRAGMA busy_timeout={round(1000 * min(BUSY_SLICE_SECONDS, BUSY_SECONDS))}")

    @event.listens_for(storage.engine, "begin")
    def on_begin(connection: Any) -> None:
        begin(connection)

    storage.engine.dispose()  # connections that were made before


def _begin(statement: str, stop: StopRequest | None, connection: Any) -> None:
    """Begins a transaction; while somebody else writes, it is tried again until a stop or for ``BUSY_SECONDS``."""
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
