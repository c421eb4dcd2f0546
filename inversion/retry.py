"""Asking a server again: which refusals pass by themselves, and how long to wait before the next try."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import sleep
from typing import TypeVar

from urllib3.exceptions import InvalidHeader
from urllib3.util.retry import Retry

__all__ = ["BUSY", "PassingError", "is_transient", "pause_seconds", "retrying", "sleep"]

T = TypeVar("T")

BUSY = frozenset({408, 425, 429})
"""HTTP statuses below 500 that are worth another try; every other one is final."""

TRIES = 4
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 15.0
"""A server that asks for a longer pause is not asked again."""

_logger = logging.getLogger(__name__)


class PassingError(Exception):
    """A refusal that may pass by itself; ``retry_after`` is the server's header of that name."""

    def __init__(self, reason: str, retry_after: str | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


def is_transient(status: int) -> bool:
    """Whether an HTTP status is that of a server that is busy or restarting; 501 (not implemented) is final."""
    return status in BUSY or (status >= 500 and status != 501)


def pause_seconds(failures: int, retry_after: str | None = None, first: float = FIRST_PAUSE_SECONDS) -> float | None:
    """Seconds to wait after ``failures`` in a row: what the server asks for, else twice as long every time.

    None where the server asks for more than we wait.
    """
    if retry_after:
        try:
            asked = Retry().parse_retry_after(retry_after)  # it gives seconds or a date
        except InvalidHeader:
            asked = 0.0
        if asked > LONGEST_PAUSE_SECONDS:
            return None
        if asked:
            return asked
    return min(first * 2.0 ** (failures - 1), LONGEST_PAUSE_SECONDS)


def retrying(call: Callable[[], T]) -> T:
    """What ``call`` returns; it is called again after every PassingError, ``TRIES`` times at most.

    Raises:
        PassingError: the last one; its reason says how often was tried, or how long the server wants to be left alone.
    """
    for failures in range(1, TRIES + 1):
        try:
            return call()
        except PassingError as error:
            pause = pause_seconds(failures, error.retry_after)
            if pause is None or failures == TRIES:
                after = f"with Retry-After: {error.retry_after}" if pause is None else f"{TRIES} times in a row"
                error.args = (f"{error} {after}",)
                raise
            _logger.info("%s; trying again in %.1f s", error, pause)
            sleep(pause)
    raise AssertionError("unreachable")
