"""A study is queued once, whoever queues it and however often, and can be grown later."""

from __future__ import annotations

from typing import Any

from optuna.trial import TrialState

from inversion.sweeps.queue.queue import Queued
from tests.sweeps.queue.claims import claim


def runs(*numbers: int) -> list[Queued]:
    return [Queued(f"run {number}", {"lr": number}, f"digest {number}") for number in numbers]


def test_what_is_there_is_not_queued_again_however_it_stands(bench: Any) -> None:
    queue = bench.open()
    assert queue.add(runs(0, 1, 2, 3)) == 4
    queue.complete(claim(queue), 1.0, "id", {})
    queue.fail(claim(queue), "oom", "no memory")
    queue.release(claim(queue), "stopped")
    assert queue.add(runs(3, 2, 1, 0)) == 0
    assert [entry.state for entry in queue.entries()] == ["finished", "failed", "interrupted", "queued"]


def test_a_larger_spec_adds_what_is_new_behind_what_is_there(bench: Any) -> None:
    queue = bench.open()
    queue.add(runs(1, 3))
    assert bench.open().add(runs(0, 1, 2, 3, 4)) == 3
    assert [entry.name for entry in queue.entries()] == ["run 1", "run 3", "run 0", "run 2", "run 4"]
    assert [entry.trial.user_attrs["config"]["lr"] for entry in queue.entries()] == [1, 3, 0, 2, 4]


def test_who_waits_for_the_queueing_sees_how_far_it_is(bench: Any) -> None:
    queue, seen = bench.open(), list[tuple[str, int, int]]()
    queue.add(runs(0, 1))
    queue.add(runs(0, 1, 2, 3), lambda what, done, total: seen.append((what, done, total)))
    assert seen == [("queueing", 1, 2), ("queueing", 2, 2)]


def test_four_that_queue_the_same_at_once_queue_it_once(any_bench: Any) -> None:
    any_bench.open()
    added = any_bench.at_once(4, lambda queue: queue.add(runs(*range(15))))
    assert sum(added) == 15
    names = [entry.name for entry in any_bench.open().entries()]
    assert sorted(names) == sorted(f"run {number}" for number in range(15))


def test_a_search_grows_to_its_number_of_trials_and_not_beyond(bench: Any) -> None:
    queue = bench.open()
    assert queue.grow(2) == 2
    assert queue.grow(2) == 0
    assert queue.grow(5) == 3
    assert queue.grow(4) == 0
    trials = [entry.trial for entry in queue.entries()]
    assert [trial.state for trial in trials] == [TrialState.WAITING] * 5
    assert all(trial.params == {} == trial.user_attrs for trial in trials)


def test_trials_that_stand_for_the_same_run_count_once_when_a_search_grows(bench: Any) -> None:
    queue = bench.open()
    queue.grow(2)
    queue.release(claim(queue), "stopped")
    queue.fail(claim(queue), "oom", "no memory")
    queue.retry_failed()
    assert queue.grow(3) == 1


def test_four_that_grow_a_search_at_once_bring_it_to_its_number(any_bench: Any) -> None:
    any_bench.open().grow(2)
    assert sum(any_bench.at_once(4, lambda queue: queue.grow(12))) == 10
    assert len(any_bench.open().entries()) == 12
