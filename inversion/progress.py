"""How long work tells the user how far it is."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called as ``progress(what, done, total)``, always from the thread that began the work; the unit is the caller's."""


def no_progress(what: str, done: int, total: int) -> None:
    """Reports nothing."""
