"""Runs in a queue that are claimed."""

from __future__ import annotations

from typing import Any

from inversion.sweeps.queue.entry import Entry
from inversion.sweeps.queue.queue import Queue, Queued

CONFIG = {"epochs": 2, "lr": 1e-3}
FALLBACKS = [{"name": "weights", "wanted": "imagenet", "used": "random"}]


def filled(bench: Any, count: int = 1) -> Queue:
    queue: Queue = bench.open()
    queue.add([Queued(f"run {number}", CONFIG, f"digest {number}", FALLBACKS) for number in range(count)])
    return queue


def claim(queue: Queue) -> int:
    """Id of the trial that was claimed: there is one."""
    entry = queue.claim()
    assert entry is not None
    return entry.trial._trial_id


def only(queue: Queue) -> Entry:
    entry, = queue.entries()
    return entry
