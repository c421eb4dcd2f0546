"""Connections to PostgreSQL whose statements end soon after a stop is requested, also if the server is silent.

A server that is paused, or behind a proxy that lost it, accepts what it is sent and answers nothing. No time limit of
libpq covers that: the connection is alive, and a statement waits for ever.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from functools import cache
from typing import Any, TypeVar

from sqlalchemy import event
from sqlalchemy.engine import Dialect, Engine

from inversion.training import stop

STOP_GRACE_SECONDS = 5.0
"""How long a statement may still wait for its answer after a stop was requested, or if it begins after that."""

STOP_CONNECT_SECONDS = 3
"""Limit on connecting after a stop was requested."""

DRIVER = "psycopg"

T = TypeVar("T")


@cache
def end_silent_waits() -> None:
    """Makes every connection that SQLAlchemy opens with psycopg in this process notice a stop.

    That covers the queue, MLflow's own store, locks, and the pings of connection pools.
    """

    @event.listens_for(Engine, "do_connect")
    def connect(dialect: Dialect, _: Any, arguments: list[Any], options: dict[str, Any]) -> Any:
        if dialect.driver != DRIVER:
            return None  # SQLAlchemy connects
        if stop.is_requested():
            options["connect_timeout"] = STOP_CONNECT_SECONDS
        return _connection_class().connect(*arguments, **options)


@cache
def _connection_class() -> Any:
    """psycopg's connection, with waits that a stop ends; psycopg is an optional dependency."""
    import psycopg

    class Connection(psycopg.Connection[Any]):
        """A connection that is closed if the server does not answer after a stop was requested."""

        def wait(self, gen: Generator[Any, Any, T], *arguments: Any, **options: Any) -> T:
            return super().wait(self._until_stopped(gen), *arguments, **options)

        def _until_stopped(self, gen: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
            """The steps of an operation; psycopg sends 0 every 0.1 seconds while nothing arrives."""
            waited_since = None
            try:
                state = next(gen)
                while True:
                    ready = yield state
                    if ready or not stop.is_requested():
                        waited_since = None
                    else:
                        waited_since = waited_since or time.monotonic()
                        if time.monotonic() - waited_since > STOP_GRACE_SECONDS:
                            self.pgconn.finish()  # the pool then discards it
                            raise psycopg.OperationalError("the server accepted the request and does not answer")
                    state = gen.send(ready)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]

    return Connection
