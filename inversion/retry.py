"""Retries of HTTP requests: which failures are transient, and how long to wait before the next attempt."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import sleep
from typing import TypeVar

from urllib3.exceptions import InvalidHeader
from urllib3.util.retry import Retry

__all__ = ["BUSY", "TransientError", "is_transient", "pause_seconds", "retrying", "sleep"]

T = TypeVar("T")

BUSY = frozenset({408, 425, 429})
"""HTTP statuses below 500 that are retried; every other one below 500 is final."""

FINAL = frozenset({501, 505, 506, 507, 508, 510, 511})
"""HTTP statuses from 500 on that waiting does not change: not implemented, wrong version, no space left on the server,
a loop in its configuration, an extension or a login required. https://www.rfc-editor.org/rfc/rfc9110#section-15.6,
https://www.rfc-editor.org/rfc/rfc4918#section-11.5"""

TRIES = 4
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 15.0
"""A request is not retried if the server asks for a longer pause."""

_logger = logging.getLogger(__name__)


class TransientError(Exception):
    """A failure that may go away on a retry; ``retry_after`` is the value of the server's ``Retry-After`` header."""

    def __init__(self, reason: str, retry_after: str | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


def is_transient(status: int) -> bool:
    """Whether an HTTP status means that the server is busy or restarting."""
    return status in BUSY or (status >= 500 and status not in FINAL)


def pause_seconds(failures: int, retry_after: str | None = None, first: float = FIRST_PAUSE_SECONDS) -> float | None:
    """Seconds to wait after ``failures`` in a row: the server's ``Retry-After``, else ``first`` doubled each time.

    None if the server asks for more than ``LONGEST_PAUSE_SECONDS``.
    """
    if retry_after:
        try:
            requested = Retry().parse_retry_after(retry_after)  # seconds or a date
        except InvalidHeader:
            requested = 0.0
        if requested > LONGEST_PAUSE_SECONDS:
            return None
        if requested:
            return requested
    return min(first * 2.0 ** (failures - 1), LONGEST_PAUSE_SECONDS)


def retrying(call: Callable[[], T]) -> T:
    """Returns the result of ``call``, which is retried after a TransientError, ``TRIES`` attempts in all.

    Raises:
        TransientError: that of the last attempt; the message ends with the number of attempts, or with the server's
            ``Retry-After``.
    """
    for failures in range(1, TRIES + 1):
        try:
            return call()
        except TransientError as error:
            pause = pause_seconds(failures, error.retry_after)
            if pause is None or failures == TRIES:
                after = f"with Retry-After: {error.retry_after}" if pause is None else f"{TRIES} times in a row"
                error.args = (f"{error} {after}",)
                raise
            _logger.info("%s; retrying in %.1f s", error, pause)
            sleep(pause)
    raise AssertionError("unreachable")
