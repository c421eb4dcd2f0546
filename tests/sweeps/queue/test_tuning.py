"""Tuning: all values with the first seed, then the other seeds of the best value by validation, and of no other."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from itertools import product
from typing import Any

import pytest

from inversion.sweeps.queue.entry import Entry, Snapshot
from inversion.sweeps.queue.queue import Queue, Queued
from inversion.sweeps.queue.tuning import TunedRun

RATES, SEEDS = ("1e-4", "1e-3", "1e-2"), (0, 1, 2)


def tuned(group: str, rates: tuple[str, ...] = RATES, seeds: tuple[int, ...] = SEEDS) -> list[Queued]:
    """The runs of one configuration: every rate with every seed."""
    return [Queued(f"{group} {rate} {seed}", {"lr": rate, "seed": seed}, f"{group} {rate} {seed}",
                   tuned=TunedRun(group, f"{group} {rate}", seed)) for rate, seed in product(rates, seeds)]


def finish(queue: Queue, entry: Entry, value: float) -> None:
    queue.complete(entry.trial._trial_id, value, f"run {entry.name}", {})


def work(queue: Queue, values: Mapping[str, float]) -> list[str]:
    """Does every run that can be claimed; its value is that of its rate, and it fails without one. Their names."""
    done = []
    while (entry := queue.claim()) is not None:
        done.append(entry.name)
        rate = str(entry.config["lr"])
        if rate in values:
            finish(queue, entry, values[rate])
        else:
            queue.fail(entry.trial._trial_id, "nan", "the loss is not finite")
    return done


def states(queue: Queue) -> dict[str, str]:
    return {entry.name: entry.state for entry in queue.entries()}


def test_the_other_seeds_are_run_with_the_best_value_alone(any_bench: Any) -> None:
    queue = any_bench.open()
    queue.add([*tuned("a"), Queued("free", {"lr": "1e-4", "seed": 5}, "free")])
    done = work(queue, {"1e-4": 20.0, "1e-3": 22.0, "1e-2": 21.0})
    assert sorted(done[:4]) == ["a 1e-2 0", "a 1e-3 0", "a 1e-4 0", "free"]
    assert sorted(done[4:]) == ["a 1e-3 1", "a 1e-3 2"]
    found = states(queue)
    assert {name for name, state in found.items() if state == "not chosen"} == {
        f"a {rate} {seed}" for rate in ("1e-4", "1e-2") for seed in (1, 2)}
    assert Snapshot(queue.entries(), datetime.now()).is_done


def test_nothing_is_chosen_while_a_value_is_being_tried(any_bench: Any) -> None:
    queue, other = any_bench.open(), any_bench.open()
    queue.add(tuned("a", RATES[:2]))
    first, second = queue.claim(), other.claim()
    assert first is not None
    assert second is not None
    finish(queue, first, 20.0)
    assert queue.claim() is None
    assert [entry.state for entry in queue.entries()].count("queued") == 4
    finish(other, second, 21.0)
    assert {work(queue, {"1e-4": 0.0, "1e-3": 0.0})[0]} <= {"a 1e-3 1", "a 1e-3 2"}


def test_groups_are_decided_one_by_one(any_bench: Any) -> None:
    queue = any_bench.open()
    queue.add([*tuned("a", RATES[:2], (0, 1)), *tuned("b", RATES[:2], (3, 4))])
    assert sorted(work(queue, {"1e-4": 2.0, "1e-3": 1.0})) == [
        "a 1e-3 0", "a 1e-4 0", "a 1e-4 1", "b 1e-3 3", "b 1e-4 3", "b 1e-4 4"]


def test_a_value_whose_run_failed_is_not_chosen_and_without_any_nothing_is(any_bench: Any) -> None:
    queue = any_bench.open()
    queue.add([*tuned("a", RATES[:2]), *tuned("b", RATES[2:])])
    work(queue, {"1e-4": 20.0})
    found = states(queue)
    assert (found["a 1e-3 0"], found["a 1e-4 2"], found["a 1e-3 1"]) == ("failed", "finished", "not chosen")
    assert (found["b 1e-2 0"], found["b 1e-2 1"]) == ("failed", "not chosen")


def test_a_choice_that_changes_brings_its_seeds_back(any_bench: Any) -> None:
    queue = any_bench.open()
    queue.add(tuned("a", RATES[:2], (0, 1)))
    work(queue, {"1e-4": 20.0})
    assert states(queue)["a 1e-3 1"] == "not chosen"
    queue.retry_failed()
    assert sorted(work(queue, {"1e-3": 23.0})) == ["a 1e-3 0", "a 1e-3 1"]
    assert set(states(queue).values()) == {"finished"}


def test_more_seeds_and_more_values_join_what_was_tuned_before(any_bench: Any) -> None:
    queue = any_bench.open()
    queue.add(tuned("a", RATES[:2], (0, 1)))
    values = {"1e-4": 20.0, "1e-3": 22.0, "1e-2": 21.0}
    work(queue, values)
    queue.add(tuned("a", RATES[:2], (5, 6)))
    assert sorted(work(queue, values)) == ["a 1e-3 5", "a 1e-3 6"]
    queue.add(tuned("a", RATES, (0, 1)))
    assert work(queue, values) == ["a 1e-2 0"]
    assert states(queue)["a 1e-2 1"] == "not chosen"


def test_a_run_that_was_queued_before_it_was_tuned_counts(any_bench: Any) -> None:
    queue = any_bench.open()
    queue.add([Queued("a 1e-4 0", {"lr": "1e-4", "seed": 0}, "a 1e-4 0")])
    work(queue, {"1e-4": 30.0})
    queue.add(tuned("a", RATES[:2], (0, 1)))
    assert sorted(work(queue, {"1e-4": 30.0, "1e-3": 22.0})) == ["a 1e-3 0", "a 1e-4 1"]


@pytest.mark.parametrize("workers", [4])
def test_several_workers_do_each_run_once(workers: int, any_bench: Any) -> None:
    any_bench.open().add([*tuned("a"), *tuned("b")])
    everything = any_bench.at_once(workers, lambda queue: _until_done(queue))
    done = sorted(name for names in everything for name in names)
    assert done == sorted([*(f"{group} {rate} 0" for group in "ab" for rate in RATES),
                           *(f"{group} 1e-3 {seed}" for group in "ab" for seed in (1, 2))])


def _until_done(queue: Queue) -> list[str]:
    """A worker that stays until no run is left."""
    done: list[str] = []
    while any(entry.is_open for entry in queue.entries()):
        done += work(queue, {"1e-4": 20.0, "1e-3": 22.0, "1e-2": 21.0})
    return done


def test_the_time_left_reckons_with_one_value_of_several(any_bench: Any) -> None:
    queue = any_bench.open()
    queue.add(tuned("a"))
    tuning = queue.tuning(queue.entries())
    assert sum(tuning.share(entry) for entry in queue.entries()) == pytest.approx(3 + 2)
