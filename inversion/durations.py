"""Durations as people write them: ``30m``, ``8h`` or, as in Slurm, ``8:00:00``."""

from __future__ import annotations

import re
from datetime import timedelta

from inversion.errors import RequestError

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
LONGEST = 1_000_000_000
"""Seconds; longer than any training, and any timer takes it."""


def parse_duration(text: str) -> float:
    """Seconds of a duration: ``90s``, ``30m``, ``8h``, ``1d`` or ``8:00:00``.

    Raises:
        RequestError: it is written otherwise, or is 0.
    """
    text = text.strip()
    if found := re.fullmatch(r"(\d{1,6}(?:\.\d{1,3})?)([smhd])", text):
        seconds = float(found[1]) * SECONDS[found[2]]
    elif found := re.fullmatch(r"(\d{1,4}):([0-5]\d):([0-5]\d)", text):
        seconds = 3600.0 * int(found[1]) + 60 * int(found[2]) + int(found[3])
    else:
        seconds = 0.0
    if not 0 < seconds <= LONGEST:
        raise RequestError(f"{text!r} is not a duration. Allowed: a number above 0 with s, m, h or d, such as 30m or "
                           "8h; or hours, minutes and seconds, such as 8:00:00.")
    return seconds


def show_duration(seconds: float) -> str:
    """``2:00:00``, or ``1 day, 0:00:00``; in whole seconds from one second on."""
    return str(timedelta(seconds=round(seconds) if seconds >= 1 else seconds))
