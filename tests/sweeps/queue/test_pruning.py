"""Early stopping across a grid, in its queue: who competes, who waits, what crashes and several workers do to it."""

from __future__ import annotations

from typing import Any

import pytest
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.trial import TrialState

from inversion.sweeps.queue.entry import Entry
from inversion.sweeps.queue.pruning import PRUNER, Competitor
from inversion.sweeps.queue.queue import Queue, Queued

EAGER = MedianPruner(n_startup_trials=1, n_warmup_steps=0)
HALVING = SuccessiveHalvingPruner(min_resource=1, reduction_factor=2)


def run(configuration: str, seed: int = 0, group: str = "all", digest: str = "") -> Queued:
    name = f"{configuration}{seed}"
    return Queued(name, {"seed": seed}, digest or f"digest {name}", competitor=Competitor(group, configuration))


def grid(bench: Any, *runs: Queued) -> Queue:
    """A queue whose pruner is on."""
    queue: Queue = bench.open()
    queue.study.set_user_attr(PRUNER, {"name": "median", "options": {}})
    queue.add(runs)
    return queue


def take(queue: Queue, name: str) -> int:
    """Claims the next run, which has to be this one; returns the id of its trial."""
    queue._waiting = []
    entry = queue.claim()
    assert entry is not None
    assert entry.name == name
    return entry.trial._trial_id


def finish(queue: Queue, trial_id: int, *values: float) -> None:
    for epoch, value in enumerate(values, start=1):
        queue.report(trial_id, epoch, value)
    queue.complete(trial_id, max(values), "id", {})


def states(queue: Queue) -> dict[str, str]:
    return {entry.name: entry.state for entry in queue.entries()}


def named(queue: Queue, name: str) -> Entry:
    entry, = (entry for entry in queue.entries() if entry.name == name)
    return entry


def test_other_seeds_wait_for_the_first_and_share_its_fate(bench: Any) -> None:
    queue = grid(bench, run("a"), run("a", 1), run("b"), run("b", 1))
    first = take(queue, "a0")
    other = take(queue, "b0")
    assert queue.claim() is None
    finish(queue, first, 20.0, 21.0)
    second = take(queue, "a1")
    queue.report(other, 1, 10.0)
    assert queue.should_prune(other, EAGER)
    queue.prune(other, "not promising")
    assert queue.claim() is None
    assert states(queue) == {"a0": "finished", "a1": "running", "b0": "pruned", "b1": "pruned"}
    assert named(queue, "b1").pruned_by == "median"
    assert named(queue, "b1").trial.user_attrs["failure_message"] == (
        "not trained: run 2, another seed of its configuration, was pruned")
    queue.report(second, 1, 1.0)
    assert not queue.should_prune(second, EAGER), "a mean over the lucky seeds would be too high"


@pytest.mark.parametrize("ending", ["fail", "stop"])
def test_other_seeds_of_a_run_that_has_no_result_are_trained_to_the_end(ending: str, bench: Any) -> None:
    queue = grid(bench, run("a"), run("a", 1), run("b"))
    first = take(queue, "a0")
    finish(queue, take(queue, "b0"), 20.0)
    queue.fail(first, "oom" if ending == "fail" else "stopped", "no memory")
    second = take(queue, "a1")
    queue.report(second, 1, 1.0)
    assert not queue.should_prune(second, EAGER)
    queue.retry_failed() if ending == "fail" else queue.resume([named(queue, "a0")])
    again = take(queue, "a0")
    queue.report(again, 1, 1.0)
    assert not queue.should_prune(again, EAGER), "the mean would lack it"


def test_only_runs_that_can_be_compared_compete(bench: Any) -> None:
    queue = grid(bench, run("a", group="small"), run("b", group="large"), run("c", group="small"))
    finish(queue, take(queue, "a0"), 20.0)
    large, small = take(queue, "b0"), take(queue, "c0")
    for trial_id in (large, small):
        queue.report(trial_id, 1, 10.0)
    assert (queue.should_prune(large, EAGER), queue.should_prune(small, EAGER)) == (False, True)


def test_runs_that_an_earlier_version_queued_take_no_part(bench: Any) -> None:
    queue = grid(bench, run("a"), Queued("old", {"seed": 0}, "old"))
    finish(queue, take(queue, "a0"), 20.0)
    old = take(queue, "old")
    queue.report(old, 1, 10.0)
    assert not queue.should_prune(old, EAGER)


def test_a_request_without_a_pruner_switches_it_off(bench: Any) -> None:
    queue = grid(bench, run("a"), run("b"), run("b", 1))
    finish(queue, take(queue, "a0"), 20.0)
    bad = take(queue, "b0")
    queue.report(bad, 1, 10.0)
    queue.study.set_user_attr(PRUNER, None)
    assert not queue.should_prune(bad, EAGER)
    take(queue, "b1")


class Looking(BasePruner):
    """A pruner that notes what it is shown."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, TrialState]] = []
        self.asked = -1

    def prune(self, study: Any, trial: Any) -> bool:
        self.asked = trial.number
        self.seen = [(each.number, each.state) for each in study.get_trials() if each.intermediate_values]
        return False


def test_the_pruner_sees_one_trial_of_each_run_however_often_it_was_given_back(bench: Any) -> None:
    queue = grid(bench, run("a"), run("b"), run("c"))
    for _ in range(3):
        trial_id = take(queue, "a0")
        queue.report(trial_id, 1, 10.0)
        queue.release(trial_id, "interrupted")
    last, other = take(queue, "a0"), take(queue, "b0")
    queue.report(other, 1, 20.0)
    pruner = Looking()
    queue.should_prune(last, pruner)
    assert (pruner.asked, pruner.seen) == (0, [(0, TrialState.RUNNING), (1, TrialState.RUNNING)])


def test_halving_counts_a_run_that_was_given_back_once(bench: Any) -> None:
    """Of four, two go on. Counted twice, the first one would let a third go on."""
    queue = grid(bench, *(run(name) for name in "abcd"))
    best = take(queue, "a0")
    queue.report(best, 1, 40.0)
    assert not queue.should_prune(best, HALVING)
    queue.release(best, "interrupted")
    best = take(queue, "a0")
    assert not queue.should_prune(best, HALVING)
    for name, value, stops in (("b0", 30.0, True), ("c0", 35.0, True), ("d0", 38.0, False)):
        trial_id = take(queue, name)
        queue.report(trial_id, 1, value)
        assert queue.should_prune(trial_id, HALVING) == stops, name


def test_hyperband_keeps_the_bracket_of_a_run_that_was_given_back(bench: Any) -> None:
    queue = grid(bench, *(run(name) for name in "abcdefgh"))
    pruner = HyperbandPruner(min_resource=1, max_resource=9, reduction_factor=3)
    pruner._try_initialization(queue.study)
    brackets = {}
    for name in "abcdefgh":
        trial_id = take(queue, f"{name}0")
        queue.report(trial_id, 1, 10.0)
        queue.release(trial_id, "interrupted")
        trial_id = take(queue, f"{name}0")
        seen = Looking()
        queue.should_prune(trial_id, seen)
        brackets[name] = seen.asked
    assert list(brackets.values()) == list(range(8)), "the number decides on the bracket"


def test_a_worker_that_is_killed_between_decision_and_record_loses_nothing(bench: Any) -> None:
    queue = grid(bench, run("a"), run("b"), run("b", 1))
    good = take(queue, "a0")
    queue.report(good, 1, 20.0)
    assert not queue.should_prune(good, HALVING)
    finish(queue, good, 20.0, 21.0)

    def decide(queue: Queue) -> None:
        bad = take(queue, "b0")
        queue.report(bad, 1, 10.0)
        assert queue.should_prune(bad, HALVING)

    bench.kill_after(decide)
    queue = bench.open()
    queue.recover_stale_trials()
    assert states(queue) == {"a0": "finished", "b0": "interrupted", "b1": "queued"}
    bad = take(queue, "b0")
    assert queue.should_prune(bad, HALVING)
    queue.prune(bad, "not promising")
    assert queue.claim() is None
    assert states(queue) == {"a0": "finished", "b0": "pruned", "b1": "pruned"}


def test_several_workers_give_up_the_other_seeds_once(bench: Any) -> None:
    queue = grid(bench, run("a"), *(run("a", seed) for seed in range(1, 6)))
    queue.prune(take(queue, "a0"), "not promising")
    assert bench.at_once(3, lambda queue: queue.claim() is None) == [True] * 3
    queue = bench.open()
    assert set(states(queue).values()) == {"pruned"}
    assert len(queue.study.get_trials()) == 6


def test_no_pruner_stops_a_run_that_was_asked_for_again(bench: Any) -> None:
    queue = grid(bench, run("a"), run("b"), run("b", 1))
    finish(queue, take(queue, "a0"), 20.0)
    queue.prune(take(queue, "b0"), "not promising")
    assert queue.claim() is None
    assert len(queue.redo([named(queue, "b0"), named(queue, "b1")], to_the_end=True)) == 2
    for name in ("b0", "b1"):
        trial_id = take(queue, name)
        queue.report(trial_id, 1, 1.0)
        assert not queue.should_prune(trial_id, EAGER)
    assert named(queue, "b0").pruned_by is None


def test_pruned_runs_go_on_from_their_checkpoints_and_the_others_begin(bench: Any) -> None:
    queue = grid(bench, run("a"), run("b"), run("b", 1))
    finish(queue, take(queue, "a0"), 20.0)
    bad = take(queue, "b0")
    queue.remember_run(bad, "run id")
    queue.report(bad, 1, 1.0)
    queue.prune(bad, "not promising")
    assert queue.claim() is None
    queue.study.set_user_attr(PRUNER, None)
    queue.resume([entry for entry in queue.entries() if entry.state == "pruned"])
    assert states(queue) == {"a0": "finished", "b0": "interrupted", "b1": "queued"}
    assert (named(queue, "b0").run_id, named(queue, "b0").epoch) == ("run id", 1)


def test_a_search_has_one_contest_for_all(bench: Any) -> None:
    queue: Queue = bench.open()
    queue.add([Queued("a", {"epochs": 3}, "a"), Queued("b", {"epochs": 9}, "b")])
    finish(queue, take(queue, "a"), 20.0)
    bad = take(queue, "b")
    queue.report(bad, 1, 10.0)
    assert (queue.should_prune(bad, EAGER), queue.should_prune(bad, NopPruner())) == (True, False)
    queue.prune(bad, "not promising")
    assert named(queue, "b").pruned_by is None, "that is said of grids"
