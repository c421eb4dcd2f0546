"""Runs of dead workers, given back or tried again by several at once: each is queued once."""

from __future__ import annotations

import os
import signal
from collections import Counter
from contextlib import suppress
from itertools import chain
from typing import Any

import pytest
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from inversion.sweeps.queue.entry import OWNER, Entry
from inversion.sweeps.queue.queue import Queue
from inversion.tracking.ownership import HOST, PID
from tests.sweeps.queue.claims import claim, filled


def test_several_that_look_at_once_queue_each_dead_workers_run_once(any_bench: Any) -> None:
    queue = filled(any_bench, 12)
    any_bench.kill_after(lambda queue: [claim(queue) for _ in range(8)])
    for _ in range(4):
        queue.storage.set_trial_user_attr(claim(queue), OWNER, {HOST: "elsewhere", PID: "1"})
    any_bench.silence()
    any_bench.at_once(4, lambda queue: queue.recover_stale_trials())
    trials = queue.storage.get_all_trials(queue.study_id)
    assert Counter(Entry(trial).root for trial in trials) == dict.fromkeys(range(12), 2)
    assert {entry.state for entry in queue.entries()} == {"interrupted"}


def test_several_that_give_back_at_once_queue_each_run_once(bench: Any) -> None:
    """As when a driver is stopped: each sees what the others have just given back, and is not to queue it too."""
    queue = filled(bench, 9)
    claimed = [claim(queue) for _ in range(9)]

    def give_back(queue: Queue) -> None:
        for trial_id in claimed:
            with suppress(UpdateFinishedTrialError):  # another one was quicker
                queue.release(trial_id, "SIGTERM received")

    bench.at_once(3, give_back)
    trials = queue.storage.get_all_trials(queue.study_id)
    assert Counter(Entry(trial).root for trial in trials) == dict.fromkeys(range(9), 2)


def test_a_process_that_dies_while_it_recovers_is_made_up_for_by_the_next(
        any_bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trial is failed and has no successor; Optuna's own retry would never come back to it."""
    queue = filled(any_bench, 2)
    any_bench.kill_after(lambda queue: [claim(queue), claim(queue)])

    def die_instead(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def die_before_the_retry(queue: Queue) -> None:
        monkeypatch.setattr(queue.study, "add_trial", die_instead)
        queue.recover_stale_trials()

    any_bench.kill_after(die_before_the_retry)
    trials = queue.storage.get_all_trials(queue.study_id)
    assert [trial.state for trial in trials] == [TrialState.FAIL] * 2
    assert [entry.state for entry in queue.entries()] == ["interrupted"] * 2
    queue.recover_stale_trials()
    assert [entry.history for entry in queue.entries()] == [[0, 2], [1, 3]]
    assert {entry.trial.state for entry in queue.entries()} == {TrialState.WAITING}


def test_two_that_retry_failed_runs_at_once_queue_each_once(any_bench: Any) -> None:
    queue = filled(any_bench, 6)
    for _ in range(6):
        queue.fail(claim(queue), "oom", "no memory")
    retried = any_bench.at_once(3, lambda queue: [entry.root for entry in queue.retry_failed()])
    assert sorted(chain(*retried)) == list(range(6))
    assert len(queue.storage.get_all_trials(queue.study_id)) == 12
