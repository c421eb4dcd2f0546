"""Waiting for a tracking server that is away, in a way that a stop ends."""

from __future__ import annotations

import dataclasses
import logging
import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from mlflow.tracking import MlflowClient

from inversion.tracking.connection import Connection
from inversion.tracking.store_errors import is_lost, reason
from inversion.training.stop import StopRequest

RETRY_SECONDS = 240.0
"""How long a server may be away, as MLflow's client waits by itself."""

MOST_SECONDS = 20.0
RETRIES = ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
"""MLflow sleeps minutes between its own attempts, deaf to a stop: after two of them, seconds later, it gives up."""

_logger = logging.getLogger(__name__)


def with_retries(connection: Connection, stop: StopRequest) -> Connection:
    """The same connection, whose client tries again while its store is away, for some minutes or until a stop."""
    if isinstance(connection.client, RetryingClient):
        return connection
    os.environ.setdefault(*RETRIES)
    return dataclasses.replace(connection, client=cast(MlflowClient, RetryingClient(connection.client, stop)))


class RetryingClient:
    """MLflow's client; each method is called again while the store does not answer."""

    def __init__(self, client: MlflowClient, stop: StopRequest) -> None:
        self._client = client
        self._stop = stop

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._client, name)
        return partial(self._ask, value) if callable(value) else value

    def _ask(self, method: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """What the method gives.

        Raises:
            InterruptedRunError: the store does not answer, and somebody asked to stop.
        """
        deadline, pause = time.monotonic() + RETRY_SECONDS, 1.0
        while True:
            try:
                return method(*arguments, **options)
            except Exception as error:
                if not is_lost(error) or time.monotonic() + pause > deadline:
                    raise
                silence = f"the tracking store does not answer: {reason(error)}"
                self._stop.raise_in_wait(silence)
                _logger.warning("%s; trying again", silence)
                self._stop.wait(pause)
                self._stop.raise_in_wait(silence)
                pause = min(2 * pause, MOST_SECONDS)
