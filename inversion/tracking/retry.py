"""Retrying requests while a tracking server is unreachable, until a stop is requested."""

from __future__ import annotations

import dataclasses
import logging
import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from mlflow.tracking import MlflowClient

from inversion.errors import InversionError
from inversion.tracking.connection import Connection
from inversion.tracking.silence import answer_of
from inversion.tracking.store_errors import is_lost, reason
from inversion.training.stop import StopRequest

RETRY_SECONDS = 240.0
"""How long to retry; MLflow's own client waits about as long."""

MAX_PAUSE_SECONDS = 20.0
RETRIES = ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
"""Limits MLflow's own retries to a few seconds: it sleeps for minutes between them and cannot be interrupted."""

_logger = logging.getLogger(__name__)


def with_retries(connection: Connection, stop: StopRequest) -> Connection:
    """The connection with a client that retries while the store is unreachable, for some minutes or until a stop."""
    if isinstance(connection.client, RetryingClient):
        return connection
    os.environ.setdefault(*RETRIES)
    client = RetryingClient(connection.client, stop, is_remote=connection.uri.startswith("http"))
    return dataclasses.replace(connection, client=cast(MlflowClient, client))


class RetryingClient:
    """MLflow's client, with every method retried while the store is unreachable.

    Args:
        client: MLflow's client.
        stop: ends the wait for an answer.
        is_remote: whether the client sends requests over HTTP, which cannot be interrupted.
    """

    def __init__(self, client: MlflowClient, stop: StopRequest, is_remote: bool) -> None:
        self._client = client
        self._stop = stop
        self._is_remote = is_remote

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._client, name)
        return partial(self._call, value, "artifact" in name) if callable(value) else value

    def _call(self, method: Callable[..., Any], is_transfer: bool, *arguments: Any, **options: Any) -> Any:
        """Calls the method, and again while the store is unreachable.

        Raises:
            InterruptedRunError: a stop was requested while the store was unreachable or silent.
        """
        request = partial(method, *arguments, **options)
        deadline, pause = time.monotonic() + RETRY_SECONDS, 1.0
        while True:
            try:
                return answer_of(request, self._stop, is_transfer) if self._is_remote else request()
            except InversionError:
                raise
            except Exception as error:
                if not is_lost(error) or time.monotonic() + pause > deadline:
                    raise
                message = f"the tracking store does not answer: {reason(error)}"
                self._stop.raise_in_wait(message)
                _logger.warning("%s; retrying", message)
                self._stop.wait(pause)
                self._stop.raise_in_wait(message)
                pause = min(2 * pause, MAX_PAUSE_SECONDS)
