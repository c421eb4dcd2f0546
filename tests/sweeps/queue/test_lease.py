"""A worker gives signs of life whatever the database does, and touches nothing that it has lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from optuna.exceptions import StorageInternalError
from optuna.pruners import MedianPruner
from optuna.trial import TrialState
from sqlalchemy.exc import OperationalError

from inversion.errors import AbandonedRunError, InterruptedRunError, PrunedRunError
from inversion.sweeps.queue.lease import LOST, Lease
from inversion.sweeps.queue.queue import Queue, Queued
from inversion.training.stop import StopRequest

BEAT = 0.05
DOWN = OperationalError("select 1", {}, Exception("server closed the connection"))


class Asked(Queue):
    """A queue that counts what it is asked, and answers with errors first where a test wants that."""

    def __init__(self, queue: Queue) -> None:
        super().__init__(queue.storage, queue.study)
        self.questions = 0
        self.beats = 0
        self.errors: list[Exception] = []

    def is_mine(self, trial_id: int) -> bool:
        self.questions += 1
        return super().is_mine(trial_id)

    def beat(self, trial_id: int) -> None:
        self.beats += 1
        if self.errors:
            raise self.errors.pop(0)
        super().beat(trial_id)


@pytest.fixture
def queue(bench: Any) -> Asked:
    """Three waiting runs."""
    queue = Asked(bench.open())
    queue.add([Queued(f"run {number}", {}, f"digest {number}") for number in range(3)])
    return queue


@pytest.fixture
def quick(queue: Asked, monkeypatch: pytest.MonkeyPatch) -> Asked:
    """The same with many signs of life a second."""
    monkeypatch.setattr(queue.storage, "heartbeat_interval", BEAT)
    return queue


class Clock:
    """A time of day that stands still unless it is moved."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert not beating()


def beating() -> list[threading.Thread]:
    """The threads that give signs of life."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("heartbeat")]


def claimed(queue: Queue, **options: Any) -> Lease:
    """The lease of a claimed trial."""
    entry = queue.claim()
    assert entry is not None
    return Lease(queue, entry.trial._trial_id, "val/psnr", StopRequest(), **options)


def lose(lease: Lease) -> None:
    """What another worker does that takes a silent one for dead."""
    lease.queue.storage.set_trial_state_values(lease.trial_id, TrialState.FAIL)
    lease.queue.recover_stale_trials()


def until(what: Callable[[], object], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(BEAT / 5)


def test_a_held_run_is_alive_as_long_as_it_is_held(quick: Asked, bench: Any) -> None:
    with claimed(quick) as lease:
        bench.silence()
        beats = quick.beats
        until(lambda: quick.beats > beats + 1)
        bench.open().recover_stale_trials()
        assert quick.is_mine(lease.trial_id)
        assert lease.stop.reason is None
    beats = quick.beats
    time.sleep(3 * BEAT)
    assert quick.beats == beats


@pytest.mark.parametrize("error", [DOWN, StorageInternalError("the database is locked")])
def test_signs_of_life_go_on_after_errors_of_the_database(error: Exception, quick: Asked, bench: Any) -> None:
    quick.errors = [error] * 3
    with claimed(quick) as lease:
        until(lambda: quick.beats > 3)
        bench.silence()
        beats = quick.beats
        until(lambda: quick.beats > beats + 1)
        bench.open().recover_stale_trials()
        assert quick.is_mine(lease.trial_id)
        assert lease.stop.reason is None


def test_a_database_that_does_not_say_whose_a_run_is_takes_it_from_nobody(
        quick: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = claimed(quick)
    with monkeypatch.context() as patch:
        patch.setattr(quick.storage, "get_trial", lambda *_: (_ for _ in ()).throw(DOWN))
        with lease:
            until(lambda: quick.questions > 3)
            patch.undo()
            quick.storage.heartbeat_interval = BEAT  # type: ignore[assignment]
            until(lambda: quick.beats > 0)
            assert lease.stop.reason is None


def test_a_lost_run_is_stopped_with_the_next_sign_of_life(quick: Asked) -> None:
    worker = StopRequest()
    lease = claimed(quick)
    lease.stop = StopRequest(worker)
    with lease:
        lose(lease)
        until(lambda: lease.stop.reason)
        beats = quick.beats
        time.sleep(3 * BEAT)
        assert quick.beats == beats
    assert (lease.stop.reason, lease.stop.error) == (LOST, AbandonedRunError)
    assert worker.reason is None, "the worker itself goes on with the next run"


def test_a_run_that_was_asked_to_stop_before_it_was_lost_stops_for_the_first_reason(quick: Asked) -> None:
    with claimed(quick) as lease:
        lease.stop.set("SIGTERM received")
        lose(lease)
        until(lambda: not beating())  # it has seen that
    assert (lease.stop.reason, lease.stop.error) == ("SIGTERM received", InterruptedRunError)


LOUD: dict[str, Callable[[Lease], None]] = {
    "on_begin": lambda lease: lease.on_begin("id"),
    "on_epoch": lambda lease: lease.on_epoch(1, {"val/psnr": 20.0}),
    "on_commit": lambda lease: lease.on_commit(),
}
QUIET: dict[str, Callable[[Lease], None]] = {
    "on_pictures": lambda lease: lease.on_pictures(1, []),
    "on_checkpoint": lambda lease: lease.on_checkpoint([], False),
}


@pytest.mark.parametrize("moment", LOUD)
def test_a_lost_run_begins_nothing_reports_nothing_and_is_not_called_finished(moment: str, queue: Asked) -> None:
    lease = claimed(queue)
    lose(lease)
    before = queue.entries()
    with pytest.raises(AbandonedRunError, match=LOST):
        LOUD[moment](lease)
    assert queue.entries() == before


def test_a_run_tells_its_id_and_its_epochs(queue: Asked) -> None:
    lease = claimed(queue)
    lease.on_begin("id")
    lease.on_epoch(1, {"val/psnr": 20.0, "val/loss": 1.0})
    lease.on_epoch(2, {"val/psnr": 21.0, "val/loss": 0.5})
    lease.on_commit()
    trial = queue.storage.get_trial(lease.trial_id)
    assert (trial.user_attrs["mlflow_run"], trial.intermediate_values) == ("id", {1: 20.0, 2: 21.0})


@pytest.mark.parametrize("moment", QUIET)
def test_after_a_silence_it_is_asked_whose_the_run_is_before_anything_is_written(
        moment: str, queue: Asked, clock: Clock) -> None:
    lease = claimed(queue, clock=clock)
    clock.now += 2 * queue.heartbeat_seconds + 1
    QUIET[moment](lease)
    assert queue.questions == 1
    QUIET[moment](lease)
    assert queue.questions == 1
    lose(lease)
    QUIET[moment](lease)  # whoever was just told that it is his has not been silent
    clock.now += 2 * queue.heartbeat_seconds + 1
    with pytest.raises(AbandonedRunError, match=LOST):
        QUIET[moment](lease)


@pytest.mark.parametrize("moment", QUIET)
def test_nothing_is_asked_while_signs_of_life_come(moment: str, queue: Asked, clock: Clock) -> None:
    lease = claimed(queue, clock=clock)
    for epoch in range(1, 5):
        clock.now += 2 * queue.heartbeat_seconds - 1
        QUIET[moment](lease)
        lease.on_epoch(epoch, {"val/psnr": 20.0})
    assert queue.questions == 0


def test_a_pause_between_question_and_answer_counts_as_silence(
        queue: Asked, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine is suspended while the database says that all is well."""
    lease = claimed(queue, clock=clock)
    is_mine = queue.is_mine

    def pause(trial_id: int) -> bool:
        mine = is_mine(trial_id)
        clock.now += 1000
        return mine

    with monkeypatch.context() as patch:
        patch.setattr(queue, "is_mine", pause)
        lease.on_commit()
    lose(lease)
    with pytest.raises(AbandonedRunError):
        lease.on_checkpoint([], False)


def test_moments_that_are_always_asked_about_are_asked_about_without_a_silence(
        queue: Asked, clock: Clock) -> None:
    lease = claimed(queue, clock=clock)
    lease.on_begin("id")
    lease.on_commit()
    assert queue.questions == 2


def test_a_search_gives_a_run_up_before_its_next_epoch_and_at_no_other_moment(queue: Asked) -> None:
    """At the last epoch it is trained: nothing would be saved, so there the pruner is not asked."""
    pruner = MedianPruner(n_startup_trials=1, n_warmup_steps=0)
    good = claimed(queue, pruner=pruner)
    for epoch in (1, 2, 3):
        good.on_epoch(epoch, {"val/psnr": 30.0})
        good.on_next_epoch(epoch + 1)
    queue.complete(good.trial_id, 30.0, "id", {})
    better, bad = claimed(queue, pruner=pruner), claimed(queue, pruner=pruner)
    better.on_epoch(1, {"val/psnr": 31.0})
    better.on_next_epoch(2)
    bad.on_epoch(1, {"val/psnr": 29.0})
    bad.on_pictures(1, [])
    bad.on_checkpoint([], True)
    bad.on_commit()
    with pytest.raises(PrunedRunError, match="pruned after epoch 1: not promising"):
        bad.on_next_epoch(2)


def test_without_a_pruner_nothing_is_pruned(queue: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "should_prune", lambda *_: pytest.fail("nobody asked for that"))
    lease = claimed(queue)
    lease.on_epoch(1, {"val/psnr": 1.0})
    lease.on_next_epoch(2)


@pytest.mark.parametrize("fails", [False, True])
def test_signs_of_life_end_with_the_block_however_it_ends(fails: bool, queue: Asked) -> None:
    """Without waiting for the next one: 15 seconds between two runs would be too long."""
    began = time.monotonic()
    with suppress(ValueError), claimed(queue):
        if fails:
            raise ValueError("a failure of the run")
    assert time.monotonic() - began < 5
