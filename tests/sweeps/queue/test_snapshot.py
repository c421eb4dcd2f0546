"""What is known of a study at a moment: numbers by state, and the time left."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from inversion.sweeps.queue.entry import Entry, Snapshot, duration, latest
from inversion.sweeps.queue.estimate import time_left

NOW = datetime(2026, 1, 1, 12)


def trial(number: int, state: TrialState, began: float = 0, took: float | None = None,
          **attributes: Any) -> FrozenTrial:
    """A trial that began so many seconds ago."""
    made = optuna.create_trial(state=state, value=1.0 if state == TrialState.COMPLETE else None,
                               user_attrs=attributes)
    start = None if state == TrialState.WAITING else NOW - timedelta(seconds=began)
    made.number, made.datetime_start = number, start
    made.datetime_complete = start + timedelta(seconds=took) if start and took is not None else None
    return made


def finished(number: int, took: float) -> FrozenTrial:
    return trial(number, TrialState.COMPLETE, began=took, took=took)


def running(number: int, began: float) -> FrozenTrial:
    return trial(number, TrialState.RUNNING, began)


def waiting(number: int) -> FrozenTrial:
    return trial(number, TrialState.WAITING)


def interrupted(number: int) -> FrozenTrial:
    return trial(number, TrialState.FAIL, released="stopped")


def seconds_left(workers: int, *trials: FrozenTrial) -> float | None:
    left = time_left(Snapshot(latest(trials), NOW), workers)
    return None if left is None else left.total_seconds()


def test_each_run_is_counted_once_by_how_it_stands_now() -> None:
    retry = waiting(6)
    retry.system_attrs = {"failed_trial": 1, "retry_history": [1]}
    snapshot = Snapshot(latest([
        finished(0, 10), interrupted(1), running(2, 5), waiting(3), waiting(4),
        trial(5, TrialState.FAIL, failure="oom", failure_message="no memory"), retry,
        trial(7, TrialState.PRUNED), trial(8, TrialState.FAIL)]), NOW)
    assert snapshot.counts == {"queued": 2, "interrupted": 2, "running": 1, "finished": 1, "pruned": 1, "failed": 1}
    assert list(snapshot.counts) == ["queued", "interrupted", "running", "finished", "pruned", "failed"]
    assert [entry.root for entry in snapshot.having("interrupted", "failed")] == [1, 5, 8]
    assert not snapshot.is_done


def test_states_without_runs_are_left_out() -> None:
    assert Snapshot([], NOW).counts == {}
    assert Snapshot(latest([finished(0, 1), finished(1, 1)]), NOW).counts == {"finished": 2}


@pytest.mark.parametrize(("last", "done"), [
    (waiting(1), False), (running(1, 5), False), (trial(1, TrialState.FAIL), False),
    (trial(1, TrialState.FAIL, released="stopped"), False), (trial(1, TrialState.FAIL, failure="oom"), True),
    (trial(1, TrialState.PRUNED), True), (finished(1, 5), True),
])
def test_a_study_is_done_when_nothing_is_left_that_a_worker_could_do(last: FrozenTrial, done: bool) -> None:
    assert Snapshot(latest([finished(0, 5), last]), NOW).is_done is done


def test_nobody_knows_how_long_it_takes_before_something_is_finished() -> None:
    assert seconds_left(1, running(0, 50), waiting(1)) is None
    assert seconds_left(1, trial(0, TrialState.PRUNED, 50, 50), waiting(1)) is None


def test_waiting_runs_take_as_long_as_finished_ones_did_and_workers_share_them() -> None:
    done = finished(0, 100), finished(1, 200)
    assert seconds_left(1, *done, waiting(2), waiting(3), waiting(4)) == 3 * 150
    assert seconds_left(3, *done, waiting(2), interrupted(3), waiting(4)) == 150
    assert seconds_left(0, *done, waiting(2)) == 150
    assert seconds_left(1, *done) == 0


def test_running_runs_have_the_rest_of_their_time_to_go() -> None:
    assert seconds_left(1, finished(0, 100), running(1, 30)) == 70
    assert seconds_left(1, finished(0, 100), running(1, 300)) == 0
    assert seconds_left(1, finished(0, 100), running(1, 30), waiting(2)) == 170
    at_work = running(1, 30), running(2, 60)
    assert seconds_left(2, finished(0, 100), *at_work, waiting(3), waiting(4)) == (70 + 40 + 200) / 2


def test_the_last_run_is_not_quicker_for_the_workers_that_stand_beside_it() -> None:
    assert seconds_left(4, finished(0, 100), running(1, 30)) == 70


def test_workers_of_other_machines_count_by_what_they_are_at() -> None:
    others = running(1, 50), running(2, 50), running(3, 50), running(4, 50)
    assert seconds_left(1, finished(0, 100), *others, waiting(5), waiting(6)) == (4 * 50 + 200) / 4


def test_times_that_are_not_known_count_as_nothing() -> None:
    assert duration(None, NOW) == duration(NOW, None) == 0.0
    assert duration(NOW, NOW + timedelta(seconds=3)) == 3.0


def test_the_last_epoch_and_its_value_are_those_that_were_reported_last() -> None:
    entry = Entry(optuna.create_trial(state=TrialState.RUNNING, intermediate_values={1: 18.0, 3: 17.5, 2: 19.0}))
    assert (entry.epoch, entry.latest_value) == (3, 17.5)
    fresh = Entry(optuna.create_trial(state=TrialState.RUNNING))
    assert (fresh.epoch, fresh.latest_value) == (0, None)
