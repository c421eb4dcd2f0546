"""Runs of a higher priority are claimed first, whatever the order in which they were queued."""

from __future__ import annotations

from typing import Any

from inversion.sweeps.queue.entry import latest
from inversion.sweeps.queue.queue import Queue, Queued


def runs(*priorities: int) -> list[Queued]:
    return [Queued(f"run {number}", {"epochs": 2}, f"digest {number}", priority=priority)
            for number, priority in enumerate(priorities)]


def drain(queue: Queue) -> list[str]:
    taken = []
    while (entry := queue.claim()) is not None:
        taken.append(entry.name)
    return taken


def test_runs_are_claimed_by_priority_and_then_in_their_order(bench: Any) -> None:
    queue = bench.open()
    queue.add(runs(0, 2, -1, 2, 1))
    assert drain(queue) == ["run 1", "run 3", "run 4", "run 0", "run 2"]


def test_an_interrupted_run_goes_first_and_keeps_its_priority(bench: Any) -> None:
    queue = bench.open()
    queue.add(runs(0, 1, 2))
    first, second = queue.claim(), queue.claim()
    queue.release(second.trial._trial_id, "a test")
    queue.release(first.trial._trial_id, "a test")
    assert drain(bench.open()) == ["run 2", "run 1", "run 0"]


def test_a_run_that_is_done_again_from_scratch_keeps_its_priority(bench: Any) -> None:
    queue = bench.open()
    queue.add(runs(0, 0, 1))
    entry = queue.claim()
    queue.complete(entry.trial._trial_id, 1.0, "run", {})
    queue.redo([entry for entry in queue.entries() if entry.state == "finished"])
    assert drain(bench.open()) == ["run 2", "run 0", "run 1"]


def test_a_later_request_changes_the_priority_of_what_waits_and_of_nothing_else(bench: Any) -> None:
    queue = bench.open()
    queue.add(runs(0, 0, 0))
    queue.claim()
    assert bench.open().add(runs(5, 0, 1, 0)) == 1
    assert [entry.priority for entry in latest(queue.study.trials)] == [0, 0, 1, 0]
    assert drain(bench.open()) == ["run 2", "run 1", "run 3"]
