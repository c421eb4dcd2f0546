"""One process at a time, whether they share a folder or only a database."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from inversion.data.catalog import default_data_dir

ADVISORY_KEY = int.from_bytes(b"inversio")
"""Advisory locks are numbers, and belong to one database of the server."""

CONNECT_SECONDS = 10
"""How long a database may take to answer; a driver's own limit is minutes."""


@contextmanager
def alone_at(url: str) -> Iterator[None]:
    """Holds the lock of a database or server while the block runs.

    PostgreSQL's advisory lock reaches across machines, and is given back when the process dies. For everything else
    it is a file: beside an SQLite database, so that everybody who opens that finds it, and else in the data folder: a
    server keeps its clients apart itself.
    """
    if url.startswith("postgresql"):
        with _advisory_lock(url):
            yield
    else:
        with _lock_file(url):
            yield


def absolute(url: str) -> str:
    """The address of a database that means the same file in every folder."""
    file = sqlite_file(url)
    if file is None:
        return url
    prefix, mark, options = url.partition("?")
    return f"{sqlite_url(file, prefix.partition(':')[0])}{mark}{options}"


def sqlite_url(file: Path, scheme: str = "sqlite") -> str:
    """The address of an SQLite file; no more of its path is encoded than must be, since MLflow does not decode it."""
    from sqlalchemy.engine import make_url

    decodes = make_url("sqlite:///%25").database == "%"
    path = str(file).replace("%", "%25").replace("?", "%3F") if decodes else str(file)
    return f"{scheme}:///{path}"


def sqlite_file(url: str) -> Path | None:
    """The file of an SQLite database; None for every other address."""
    if not url.startswith("sqlite") or "://" not in url:
        return None
    from sqlalchemy.engine import make_url

    path = make_url(url).database  # SQLAlchemy knows whether its version decodes %20
    return None if path in (None, "", ":memory:") else Path(path).expanduser().resolve()


def _lock_file(url: str) -> FileLock:
    file = sqlite_file(url)
    if file is not None and os.access(file.parent, os.W_OK):
        place = file.with_name(f"{file.name}.lock")
    else:  # in a folder that can only be read, nobody makes or changes a database
        place = default_data_dir() / "locks" / f"{hashlib.sha256(absolute(url).encode()).hexdigest()[:16]}.lock"
        place.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(place, mode=0o666)  # whoever may open the database may wait for its lock


@contextmanager
def _advisory_lock(url: str) -> Iterator[None]:
    from sqlalchemy import create_engine, text
    from sqlalchemy.pool import NullPool

    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT",
                           connect_args={"connect_timeout": CONNECT_SECONDS})
    with engine.connect() as connection:
        connection.execute(text("select pg_advisory_lock(:key)"), {"key": ADVISORY_KEY})
        yield  # closing the connection gives the lock back
