"""A waiting run goes to one worker, and what a worker has lost it cannot touch any more."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import chain
from typing import Any

import pytest
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages._rdb.models import TrialModel
from optuna.trial import TrialState

from inversion.sweeps.queue import queue as queue_module
from inversion.sweeps.queue import storage as storage_module
from inversion.sweeps.queue.queue import Queue, Queued
from inversion.tracking.ownership import owner_tags
from tests.sweeps.queue.claims import claim, only


def runs(count: int) -> list[Queued]:
    return [Queued(f"run {number}", {"epochs": 2}, f"digest {number}") for number in range(count)]


def drain(queue: Queue) -> list[int]:
    """Numbers of the trials that a worker gets which does nothing but claim."""
    taken = []
    while (entry := queue.claim()) is not None:
        taken.append(entry.trial.number)
    return taken


def test_of_many_waiting_runs_each_is_claimed_by_one_of_four_workers(any_bench: Any) -> None:
    count = 100 if any_bench.url.startswith("sqlite") else 40  # PostgreSQL is the slower one
    any_bench.open().add(runs(count))
    taken = any_bench.at_once(4, drain)
    assert sorted(chain(*taken)) == list(range(count))
    assert sum(map(bool, taken)) > 1, "one worker was alone: nothing is shown"


@pytest.mark.parametrize(("begin", "claims"), [(None, 2), ("BEGIN IMMEDIATE", 1)])
def test_two_that_would_read_before_either_writes_are_kept_apart_by_exclusive_transactions_alone(
        begin: str | None, claims: int, bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Why an SQLite file's transactions are made exclusive: as it comes, Optuna's storage gives one run to two."""
    if begin is None:
        monkeypatch.setattr(storage_module, "_make_atomic", lambda storage, begin: None)
    queues = [bench.open(), bench.open()]
    queues[0].add(runs(1))
    both_have_read, read = threading.Barrier(2), TrialModel.find_or_raise_by_id

    def read_and_wait(trial_id: int, session: Any, for_update: bool = False) -> TrialModel:
        trial = read(trial_id, session, for_update)
        with suppress(threading.BrokenBarrierError):  # the other one cannot read yet: that is the point
            both_have_read.wait(timeout=1)
        return trial

    trial_id = queues[0].study.trials[0]._trial_id
    monkeypatch.setattr(TrialModel, "find_or_raise_by_id", read_and_wait)
    with ThreadPoolExecutor(2) as pool:
        taken = list(pool.map(lambda queue: queue.storage.set_trial_state_values(trial_id, TrialState.RUNNING), queues))
    assert sum(taken) == claims


def test_a_claimed_run_has_an_owner_and_a_sign_of_life(bench: Any) -> None:
    queue = bench.open()
    queue.add(runs(1))
    entry = queue.claim()
    assert entry is not None
    assert (entry.name, entry.digest, entry.epochs, entry.state) == ("run 0", "digest 0", 2, "running")
    assert entry.owner == owner_tags()
    assert entry.trial.datetime_start is not None
    bench.silence()
    assert queue.storage._get_stale_trial_ids(queue.study_id) == [entry.trial._trial_id]
    queue.beat(entry.trial._trial_id)
    assert queue.storage._get_stale_trial_ids(queue.study_id) == []


def test_a_worker_that_dies_in_the_middle_of_its_claim_is_found_after_the_grace_period(
        any_bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Optuna never calls a trial stale that has no heartbeat: it must be there before the trial is taken."""
    any_bench.open().add(runs(1))

    def die_while_claiming(queue: Queue) -> None:
        take = queue.storage.set_trial_state_values

        def take_and_die(trial_id: int, state: TrialState) -> bool:
            take(trial_id, state)
            os.kill(os.getpid(), signal.SIGKILL)
            return True

        monkeypatch.setattr(queue.storage, "set_trial_state_values", take_and_die)
        queue.claim()

    any_bench.kill_after(die_while_claiming)
    queue = any_bench.open()
    assert (only(queue).state, only(queue).owner) == ("running", {})
    queue.recover_stale_trials()
    assert only(queue).state == "running"
    any_bench.silence(queue.grace_seconds + 1)
    queue.recover_stale_trials()
    assert (only(queue).state, only(queue).history) == ("interrupted", [0, 1])


def test_interrupted_runs_come_first_and_the_others_in_the_order_of_their_queueing(bench: Any) -> None:
    queue = bench.open()
    queue.add(runs(3))
    queue.release(claim(queue), "stopped")
    queue.release(claim(queue), "stopped")
    assert drain(bench.open()) == [3, 4, 2]
    assert [entry.root for entry in queue.entries()] == [0, 1, 2]


def test_nothing_is_claimed_where_nothing_waits(bench: Any) -> None:
    queue = bench.open()
    assert queue.claim() is None
    queue.add(runs(1))
    assert drain(queue) == [0]
    assert queue.claim() is None


def test_a_worker_with_an_old_list_does_not_claim_what_others_have_done(bench: Any) -> None:
    """Running, finished, failed and given back since: none of them is its to take; what is new it sees."""
    ours, others = bench.open(), bench.open()
    ours.add(runs(6))
    assert claim(ours)
    taken = [claim(others) for _ in range(4)]
    others.complete(taken[0], 1.0, "id", {})
    others.fail(taken[1], "oom", "no memory")
    others.prune(taken[2], "not promising")
    assert drain(ours) == [5]
    others.release(taken[3], "stopped")
    assert drain(ours) == [6]


def test_after_a_while_a_worker_reads_anew_what_waits(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = bench.open()
    queue.add(runs(4))
    queue.release(claim(queue), "stopped")
    second = queue.claim()
    monkeypatch.setattr(queue_module, "REREAD_SECONDS", 0.0)
    third = queue.claim()
    assert second is not None
    assert third is not None
    assert (second.root, third.root) == (1, 0)


def test_looking_at_a_queue_does_not_wait_for_a_worker_that_writes(
        bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_module, "BUSY_SECONDS", 0.2)
    writing = bench.open()
    writing.add(runs(2))
    reading = Queue(storage_module.open_storage(bench.url, reading=True), writing.study)
    with writing.storage.engine.begin():
        assert len(reading.entries()) == 2
    reading.storage.engine.dispose()


ENDINGS: dict[str, Callable[[Queue, int], object]] = {
    "complete": lambda queue, trial_id: queue.complete(trial_id, 1.0, "id", {"test/psnr": 20.0}),
    "prune": lambda queue, trial_id: queue.prune(trial_id, "not promising"),
    "fail": lambda queue, trial_id: queue.fail(trial_id, "oom", "no memory"),
    "release": lambda queue, trial_id: queue.release(trial_id, "stopped"),
    "report": lambda queue, trial_id: queue.report(trial_id, 1, 20.0),
    "remember_run": lambda queue, trial_id: queue.remember_run(trial_id, "id"),
    "describe": lambda queue, trial_id: queue.describe(trial_id, Queued("other", {}, "other")),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_a_worker_says_of_a_run_that_it_has_lost_is_refused_and_changes_nothing(ending: str, bench: Any) -> None:
    slow, quick = bench.open(), bench.open()
    slow.add(runs(1))
    lost = claim(slow)
    bench.silence()
    quick.recover_stale_trials()
    taken = claim(quick)
    before = quick.entries(), quick.storage.get_trial(lost)
    assert slow.is_mine(taken)
    assert not slow.is_mine(lost)
    with pytest.raises(UpdateFinishedTrialError):
        ENDINGS[ending](slow, lost)
    slow.beat(lost)
    assert (quick.entries(), quick.storage.get_trial(lost)) == before
    assert slow.claim() is None


@pytest.mark.parametrize("ending", ["complete", "prune", "fail"])
def test_a_run_that_is_lost_between_two_words_of_its_worker_is_refused_too(
        ending: str, bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = bench.open()
    queue.add(runs(1))
    trial_id, write = claim(queue), queue.storage.set_trial_user_attr

    def write_and_lose(trial_id: int, key: str, value: object) -> None:
        write(trial_id, key, value)
        if key in ("scores", "failure") or ending == "prune":
            bench.silence()
            bench.open().recover_stale_trials()

    monkeypatch.setattr(queue.storage, "set_trial_user_attr", write_and_lose)
    with pytest.raises(UpdateFinishedTrialError):
        ENDINGS[ending](queue, trial_id)
    assert queue.storage.get_trial(trial_id).state == TrialState.FAIL


def test_a_finished_run_has_its_scores_its_value_and_its_mlflow_run(bench: Any) -> None:
    queue = bench.open()
    queue.add(runs(1))
    queue.complete(claim(queue), 21.5, "id", {"test/psnr": 20.0})
    entry = only(queue)
    assert (entry.state, entry.trial.value, entry.run_id, entry.scores) == (
        "finished", 21.5, "id", {"test/psnr": 20.0})
    assert not entry.is_open


def test_a_pruned_run_has_the_reason_and_its_last_value(bench: Any) -> None:
    queue = bench.open()
    queue.add(runs(1))
    trial_id = claim(queue)
    queue.report(trial_id, 1, 20.0)
    queue.report(trial_id, 2, 19.0)
    queue.prune(trial_id, "not promising")
    entry = only(queue)
    assert (entry.state, entry.trial.value, entry.trial.user_attrs["failure_message"]) == (
        "pruned", 19.0, "not promising")
    assert not entry.is_open


def test_a_failed_run_has_the_reason_and_is_left_alone(bench: Any) -> None:
    queue = bench.open()
    queue.add(runs(1))
    queue.fail(claim(queue), "oom", "no memory")
    queue.recover_stale_trials()
    assert (only(queue).state, only(queue).failure) == ("failed", "oom: no memory")
    assert not only(queue).is_open
    assert queue.claim() is None


def test_a_run_that_is_given_back_waits_again_at_once(bench: Any) -> None:
    queue = bench.open()
    queue.add(runs(1))
    first = claim(queue)
    queue.release(first, "SIGTERM received")
    assert (only(queue).state, only(queue).is_open) == ("interrupted", True)
    assert queue.storage.get_trial(first).user_attrs["released"] == "SIGTERM received"
    assert claim(bench.open()) != first


def test_of_trials_that_came_to_the_same_run_one_does_it_until_it_ends(any_bench: Any) -> None:
    queue = any_bench.open()
    queue.grow(3)
    assert sum(any_bench.at_once(3, lambda queue: queue.hold(claim(queue), "digest"))) == 1
    holder, = (entry.trial for entry in queue.entries() if "holds" in entry.trial.user_attrs)
    waiting = next(entry.trial for entry in queue.entries() if entry.trial != holder)
    assert queue.hold(holder._trial_id, "digest")
    assert not queue.hold(waiting._trial_id, "digest")
    queue.release(holder._trial_id, "stopped")
    assert queue.hold(waiting._trial_id, "digest")
    again = claim(queue)
    assert not queue.hold(again, "digest"), "who was given it later waits, whatever its number"


def test_a_value_that_is_none_is_the_runs_failure_and_no_lost_lease(bench: Any) -> None:
    queue = bench.open()
    queue.add(runs(1))
    trial_id = claim(queue)
    with pytest.raises(ValueError, match="nan"):
        queue.complete(trial_id, float("nan"), "id", {})
    queue.fail(trial_id, "error", "no value")
    assert only(queue).state == "failed"
