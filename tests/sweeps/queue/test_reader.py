"""Reading a queue again and again: what is read is what Optuna reads, and what has not changed is not read again."""

from __future__ import annotations

from typing import Any

import pytest
from optuna.trial import TrialState

from inversion.sweeps.queue.queue import Queue, Queued
from inversion.sweeps.queue.reader import ONE_BY_ONE, TrialReader

RUNS = ONE_BY_ONE + 6


@pytest.fixture
def queue(any_bench: Any) -> Queue:
    """A queue with more runs than are read singly."""
    made: Queue = any_bench.open()
    made.add([Queued(f"run {number}", {"seed": number}, f"digest {number}") for number in range(RUNS)])
    return made


def test_every_change_is_seen_however_it_was_made(queue: Queue, any_bench: Any) -> None:
    reader = TrialReader(queue.storage, queue.study_id)

    def require_same() -> None:
        found = queue.storage.get_all_trials(queue.study_id)
        assert reader.read() == found
        for state in TrialState:
            assert reader.read([state]) == [trial for trial in found if trial.state == state]

    require_same()
    others: Queue = any_bench.open()
    claimed = [entry.trial._trial_id for entry in (others.claim() for _ in range(4)) if entry]
    require_same()
    others.report(claimed[0], 1, 20.0)
    others.remember_run(claimed[1], "0" * 32)
    require_same()
    others.report(claimed[0], 2, 21.0)
    others.complete(claimed[0], 21.0, "1" * 32, {"test/psnr": 21.0})
    others.fail(claimed[1], "oom", "no memory")
    others.prune(claimed[2], "hopeless")
    others.release(claimed[3], "SIGTERM received")
    require_same()
    others.add([Queued(f"run {number}", {"seed": number}, f"digest {number}", priority=2) for number in (20, 21)])
    require_same()
    others.retry_failed()
    others.add([Queued("late", {"seed": RUNS}, "late")])
    require_same()


def test_only_what_may_have_changed_is_read_again(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = TrialReader(queue.storage, queue.study_id)
    assert len(reader.read()) == len(queue.entries()) == RUNS
    read: list[int] = []
    get_trial = queue.storage.get_trial
    monkeypatch.setattr(queue.storage, "get_all_trials", lambda *_, **__: pytest.fail("everything is read again"))

    def note(trial_id: int) -> Any:
        read.append(trial_id)
        return get_trial(trial_id)

    monkeypatch.setattr(queue.storage, "get_trial", note)
    reader.read()
    assert read == []
    entry = queue.claim()
    assert entry is not None
    read.clear()
    reader.read()
    reader.read()
    assert read == [entry.trial._trial_id] * 2  # a running one changes without a sign
    queue.complete(entry.trial._trial_id, 20.0, "0" * 32, {})
    read.clear()
    reader.read()
    reader.read()
    assert read == [entry.trial._trial_id]
