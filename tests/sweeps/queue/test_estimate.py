"""The time that is left of a study whose runs differ, were resumed, or have just begun."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from inversion.sweeps.queue.entry import Snapshot, latest
from inversion.sweeps.queue.estimate import time_left

NOW = datetime(2026, 1, 1, 12)


def trial(number: int, state: TrialState, *, decoder: str = "wavelet", epochs: int = 10, done: int = 0,
          began: float = 0, took: float | None = None, retry_of: int | None = None, **attributes: Any) -> FrozenTrial:
    """A trial that began so many seconds ago and has reported ``done`` epochs, those of earlier trials included."""
    config = {"encoder": "vgg16:block1", "decoder": decoder, "fusion": "none", "epochs": epochs}
    made = optuna.create_trial(state=state, value=1.0 if state == TrialState.COMPLETE else None,
                               intermediate_values=dict.fromkeys(range(1, done + 1), 20.0),
                               user_attrs={"config": config, **attributes})
    made.number = number
    made.datetime_start = None if state == TrialState.WAITING else NOW - timedelta(seconds=began)
    made.datetime_complete = made.datetime_start + timedelta(seconds=took) if made.datetime_start and took else None
    if retry_of is not None:
        made.system_attrs = {"failed_trial": retry_of, "retry_history": [retry_of]}
    return made


def finished(number: int, took: float, **options: Any) -> FrozenTrial:
    return trial(number, TrialState.COMPLETE, began=took, took=took, **{"done": 10} | options)


def running(number: int, began: float, done: int, **options: Any) -> FrozenTrial:
    return trial(number, TrialState.RUNNING, began=began, done=done, **options)


def seconds_left(*trials: FrozenTrial, workers: int = 1) -> float | None:
    left = time_left(Snapshot(latest(trials), NOW), workers)
    return None if left is None else left.total_seconds()


def test_before_anything_is_finished_the_first_epochs_tell() -> None:
    assert seconds_left(running(0, 40, 4)) == 60
    assert seconds_left(running(0, 40, 4), trial(1, TrialState.WAITING)) == 160


def test_a_resumed_run_has_only_the_rest_of_its_epochs_to_go() -> None:
    """It did 8 epochs before it was stopped, and one in the 10 seconds since it was resumed."""
    stopped = trial(1, TrialState.FAIL, done=8, began=5000, took=80, released="stopped")
    assert seconds_left(stopped, running(2, 10, 9, retry_of=1)) == 10
    assert seconds_left(finished(0, 100), stopped, running(2, 10, 9, retry_of=1)) == 10
    assert seconds_left(finished(0, 100), stopped, running(2, 5, 8, retry_of=1)) == 15


def test_a_run_that_waits_to_be_resumed_has_only_the_rest_to_go() -> None:
    stopped = trial(1, TrialState.FAIL, done=8, began=5000, took=80, released="stopped")
    assert seconds_left(finished(0, 100), stopped, trial(2, TrialState.WAITING, done=8, retry_of=1)) == 20


def test_a_finished_run_that_was_resumed_counts_with_all_of_its_training() -> None:
    """Its last trial took 10 of the 100 seconds. A night in which the machine was off is no part of it."""
    stopped = trial(0, TrialState.FAIL, done=9, began=50_000, took=40_000, released="stopped")
    resumed = finished(1, 10, retry_of=0, scores={"train_seconds": 100.0})
    assert seconds_left(stopped, resumed, trial(2, TrialState.WAITING)) == 100


def test_a_waiting_run_takes_as_long_as_those_of_its_kind_and_in_proportion_to_its_epochs() -> None:
    done = finished(0, 100), finished(1, 1000, decoder="attention")
    assert seconds_left(*done, trial(2, TrialState.WAITING, decoder="attention")) == 1000
    assert seconds_left(*done, trial(2, TrialState.WAITING, epochs=30)) == 300
    assert seconds_left(*done, trial(2, TrialState.WAITING, decoder="transposed_conv")) == 550


def test_a_run_of_another_kind_in_progress_counts_by_its_own_pace() -> None:
    assert seconds_left(finished(0, 100), running(1, 500, 5, decoder="attention")) == 500


def test_early_stopping_is_expected_where_it_was_seen() -> None:
    stopped_early = finished(0, 60, done=6)
    assert seconds_left(stopped_early, running(1, 500, 5, decoder="attention")) == 100
    assert seconds_left(stopped_early, running(1, 800, 8, decoder="attention")) == 100  # another epoch at least
