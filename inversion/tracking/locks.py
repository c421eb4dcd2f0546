"""Locks between processes that share a folder or only a database."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from inversion.data.datasets import default_data_dir
from inversion.tracking.address import absolute, sqlite_file
from inversion.training.stop import StopRequest

ADVISORY_KEY = int.from_bytes(b"inversio")
"""The number of PostgreSQL's advisory lock, which is specific to one database of the server."""

CONNECT_SECONDS = 10
"""Limit on connecting to a database; drivers wait minutes by default."""

POLL_SECONDS = 0.05
STOP_GRACE_SECONDS = 5.0
"""How long a process still waits for a lock after a stop was requested: it needs the lock to release its run."""


@contextmanager
def exclusive_lock(url: str, stop: StopRequest | None = None, create: bool = True) -> Iterator[None]:
    """Holds the lock of a database or server while the block runs.

    For PostgreSQL this is an advisory lock: it works across machines, and is released when the process dies. For
    everything else it is a file: next to an SQLite database, where every process that opens it looks, else in the data
    folder, which is enough because a server serializes its clients itself.

    Args:
        url: the address of the database or server.
        stop: ends the wait for the lock, after ``STOP_GRACE_SECONDS``.
        create: whether to create a missing lock file. Readers pass False: nobody holds a lock without a file.

    Raises:
        InterruptedRunError: a stop was requested while another process holds the lock.
    """
    if url.startswith("postgresql"):
        with _advisory_lock(url, stop):
            yield
        return
    lock = _lock_file(url, create)
    if lock is None:
        yield
    elif stop is None:
        with lock:
            yield
    else:
        _wait_for(lambda: _try(lock), stop, str(lock.lock_file))
        try:
            yield
        finally:
            lock.release()


def _lock_file(url: str, create: bool) -> FileLock | None:
    file = sqlite_file(url)
    if file is not None and os.access(file.parent, os.W_OK):
        place = file.with_name(f"{file.name}.lock")
    else:  # in a read-only folder, no process creates or changes the database
        place = default_data_dir() / "locks" / f"{hashlib.sha256(absolute(url).encode()).hexdigest()[:16]}.lock"
        if create:
            place.parent.mkdir(parents=True, exist_ok=True)
    if not create and not os.path.exists(place):
        return None
    return FileLock(place, mode=0o666)  # every user who may open the database may wait for its lock


def _try(lock: FileLock) -> bool:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    return True


def _wait_for(take: Callable[[], bool], stop: StopRequest, what: str) -> None:
    """Tries until the lock is acquired, or a stop was requested and another process still holds it."""
    give_up_at = None
    while not take():
        if stop.reason is not None:
            give_up_at = give_up_at or time.monotonic() + STOP_GRACE_SECONDS
            if time.monotonic() > give_up_at:
                stop.raise_in_wait(f"another process holds the lock {what}")
        time.sleep(POLL_SECONDS)


@contextmanager
def _advisory_lock(url: str, stop: StopRequest | None = None) -> Iterator[None]:
    from sqlalchemy import create_engine, text
    from sqlalchemy.pool import NullPool

    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT",
                           connect_args={"connect_timeout": CONNECT_SECONDS})
    with engine.connect() as connection:
        if stop is None:
            connection.execute(text("select pg_advisory_lock(:key)"), {"key": ADVISORY_KEY})
        else:  # a query that waits cannot be cancelled
            attempt = text("select pg_try_advisory_lock(:key)")
            _wait_for(lambda: bool(connection.scalar(attempt, {"key": ADVISORY_KEY})), stop, "of the database")
        yield  # closing the connection releases the lock
