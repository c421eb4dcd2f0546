"""Waits for a server's answer that end soon after a stop is requested, also if the server is silent.

A server that is paused, or behind a proxy that lost it, accepts what it is sent and answers nothing. No time limit of
PostgreSQL's libpq covers that: the connection is alive, and a statement waits for ever. MLflow's client waits for
minutes.
"""

from __future__ import annotations

import contextvars
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future, wait
from functools import cache
from threading import Thread
from typing import Any, TypeVar

from sqlalchemy import event
from sqlalchemy.engine import Dialect, Engine

from inversion.training import stop
from inversion.training.stop import StopRequest

STOP_GRACE_SECONDS = 5.0
"""How long a statement or request may still wait for its answer after a stop was requested, or if it begins then."""

STOP_TRANSFER_SECONDS = 30.0
"""The same for a request that transfers files; a sweep kills a worker that has not ended after a minute."""

POLL_SECONDS = 0.1

STOP_CONNECT_SECONDS = 3
"""Limit on connecting after a stop was requested."""

DRIVER = "psycopg"

T = TypeVar("T")


def answer_of(request: Callable[[], T], stop_request: StopRequest, is_transfer: bool = False) -> T:
    """The result of an HTTP request, or its exception; one that transfers files may take longer.

    It is made in a thread of its own, since nothing can interrupt it; a stop leaves the thread behind.

    Raises:
        InterruptedRunError: a stop was requested, and there is no answer.
    """
    answer: Future[T] = Future()
    arguments = (answer, contextvars.copy_context(), request)
    Thread(target=_settle, args=arguments, name="request", daemon=True).start()
    waited_since, grace = None, STOP_TRANSFER_SECONDS if is_transfer else STOP_GRACE_SECONDS
    while not wait([answer], POLL_SECONDS).done:
        if stop_request.reason is not None:
            waited_since = waited_since or time.monotonic()
            if time.monotonic() - waited_since > grace:
                stop_request.raise_in_wait("the tracking server accepts requests and does not answer")
    return answer.result()


def _settle(answer: Future[T], context: contextvars.Context, request: Callable[[], T]) -> None:
    try:
        answer.set_result(context.run(request))
    except BaseException as error:
        answer.set_exception(error)


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
