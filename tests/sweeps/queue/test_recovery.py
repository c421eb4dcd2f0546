"""A dead worker's run is queued again: once, with everything that is known of it, and not for ever."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
from optuna.storages import RetryHeartbeatStaleTrialCallback
from optuna.trial import Trial, TrialState
from sqlalchemy.exc import OperationalError

from inversion.config.document import VERSION
from inversion.sweeps.queue.entry import FAILURE, OWNER
from inversion.sweeps.queue.queue import Queue, Queued
from inversion.sweeps.queue.recovery import DIED, MAX_DEATHS
from inversion.sweeps.queue.storage import knowingly_experimental
from inversion.tracking.ownership import HOST, PID
from tests.sweeps.queue.claims import CONFIG, FALLBACKS, claim, filled, only


def die(queue: Queue) -> None:
    """What a worker's death and its discovery leave, without the grace period in between."""
    queue.storage.set_trial_state_values(claim(queue), TrialState.FAIL)
    queue.recover_stale_trials()


def test_a_worker_that_was_killed_on_this_machine_is_found_without_waiting(any_bench: Any) -> None:
    queue = filled(any_bench, 2)
    any_bench.kill_after(claim)
    claim(queue)
    queue.recover_stale_trials()
    dead, alive = queue.entries()
    assert (dead.state, dead.history, dead.owner) == ("interrupted", [0, 2], {})
    assert (alive.state, alive.history) == ("running", [1])


def test_a_living_worker_is_left_alone_as_long_as_it_gives_signs_of_life(bench: Any) -> None:
    queue = filled(bench)
    trial_id = claim(queue)
    bench.silence(queue.grace_seconds - 10)
    queue.recover_stale_trials()
    assert queue.is_mine(trial_id)
    bench.silence(20)
    queue.recover_stale_trials()
    assert not queue.is_mine(trial_id)
    assert only(queue).state == "interrupted"


def test_a_worker_on_another_machine_is_left_alone_until_it_is_silent_for_too_long(any_bench: Any) -> None:
    """Its process number says nothing here, even where no process has it."""
    queue = filled(any_bench)
    queue.storage.set_trial_user_attr(claim(queue), OWNER, {HOST: "elsewhere", PID: "4194305"})
    queue.recover_stale_trials()
    assert only(queue).state == "running"
    any_bench.silence(queue.grace_seconds + 1)
    queue.recover_stale_trials()
    assert (only(queue).state, only(queue).history) == ("interrupted", [0, 1])


def test_a_throttled_process_looks_for_the_dead_once_in_a_heartbeat(bench: Any) -> None:
    queue = filled(bench)
    now = 0.0
    queue.clock = lambda: now
    queue.recover_stale_trials(throttle=True)
    bench.kill_after(claim)
    queue.recover_stale_trials(throttle=True)
    assert only(queue).state == "running"
    now += queue.heartbeat_seconds
    queue.recover_stale_trials(throttle=True)
    assert only(queue).state == "interrupted"


def test_a_process_that_has_just_begun_looks_for_the_dead_at_once(bench: Any) -> None:
    filled(bench)
    bench.kill_after(claim)
    queue = bench.open()
    queue.recover_stale_trials(throttle=True)
    assert only(queue).state == "interrupted"


@pytest.mark.parametrize("ending", ["released", "failed", "died"])
def test_whoever_goes_on_has_all_that_was_known_of_the_run_and_not_why_it_ended(ending: str, bench: Any) -> None:
    queue = bench.open()
    queue.grow(1)
    trial_id = claim(queue)
    suggest = Trial(queue.study, trial_id)
    suggest.suggest_float("lr", 1e-5, 1e-2, log=True)
    suggest.suggest_categorical("decoder", ["wavelet", "attention"])
    queue.describe(trial_id, Queued("vgg16:block1+wavelet", CONFIG, "digest", FALLBACKS))
    queue.remember_run(trial_id, "id of the run")
    queue.report(trial_id, 1, 18.0)
    queue.report(trial_id, 2, 19.5)
    match ending:
        case "released":
            queue.release(trial_id, "SIGTERM received")
        case "failed":
            queue.fail(trial_id, "oom", "no memory")
            queue.retry_failed()
        case "died":
            bench.silence()
            queue.recover_stale_trials()
    old, new = queue.storage.get_all_trials(queue.study_id)
    assert (old.state, new.state) == (TrialState.FAIL, TrialState.WAITING)
    assert new.params == old.params
    assert new.params.keys() == {"lr", "decoder"}
    assert new.distributions == old.distributions
    assert new.intermediate_values == {1: 18.0, 2: 19.5}
    assert new.user_attrs == {"run": "vgg16:block1+wavelet", "config": CONFIG, "digest": "digest",
                              "document_version": VERSION, "fallbacks": FALLBACKS, "mlflow_run": "id of the run"}


def test_a_run_keeps_its_place_and_its_history_over_many_lives(bench: Any) -> None:
    queue = filled(bench, 2)
    die(queue)
    queue.release(claim(bench.open()), "stopped")  # who has just begun takes interrupted runs first
    queue.fail(claim(bench.open()), "oom", "no memory")
    queue.retry_failed()
    first, second = queue.entries()
    assert (first.name, first.root, first.history, first.state) == ("run 0", 0, [0, 2, 3, 4], "interrupted")
    assert (second.name, second.root, second.history, second.state) == ("run 1", 1, [1], "queued")
    with knowingly_experimental():  # Optuna's own words for the same
        assert RetryHeartbeatStaleTrialCallback.retried_trial_number(first.trial) == 0
        assert RetryHeartbeatStaleTrialCallback.retry_history(first.trial) == [0, 2, 3]


def test_a_run_that_its_workers_keep_dying_at_is_given_up_until_somebody_asks(bench: Any) -> None:
    queue = filled(bench)
    for _ in range(MAX_DEATHS - 1):
        die(queue)
        assert only(queue).state == "interrupted"
    die(queue)
    entry = only(queue)
    assert (entry.state, entry.failure) == ("failed", f"{DIED}: its worker died {MAX_DEATHS} times")
    assert not entry.is_open
    assert (entry.root, entry.history) == (0, list(range(MAX_DEATHS + 1)))
    assert queue.claim() is None
    queue.recover_stale_trials()
    assert queue.entries() == [entry]

    assert queue.retry_failed(["oom"]) == []
    assert queue.retry_failed([DIED]) == [entry]
    assert only(queue).state == "interrupted"
    assert FAILURE not in only(queue).trial.user_attrs
    die(queue)
    assert only(queue).state == "failed"


def test_runs_that_were_given_back_or_failed_are_not_deaths(bench: Any) -> None:
    queue = filled(bench)
    for _ in range(MAX_DEATHS):
        queue.release(claim(queue), "SIGTERM received")
        queue.fail(claim(queue), "oom", "no memory")
        queue.retry_failed()
    die(queue)
    assert (only(queue).state, len(only(queue).history)) == ("interrupted", 2 * MAX_DEATHS + 2)


def test_a_run_that_came_an_epoch_further_each_time_is_not_what_kills_its_workers(bench: Any) -> None:
    queue = filled(bench)
    for epoch in range(1, 2 * MAX_DEATHS):
        trial_id = claim(queue)
        queue.report(trial_id, epoch, 20.0)
        queue.storage.set_trial_state_values(trial_id, TrialState.FAIL)
        queue.recover_stale_trials()
        assert only(queue).state == "interrupted"
    for _ in range(MAX_DEATHS - 1):  # the last of those was the first death since its epoch
        assert only(queue).state == "interrupted"
        die(queue)
    assert only(queue).failure == f"{DIED}: its worker died {MAX_DEATHS} times"


def test_after_the_database_was_away_silence_means_nothing_for_a_grace_period(
        any_bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody could give a sign of life meanwhile."""
    queue = filled(any_bench)
    now = 0.0
    queue.clock = lambda: now
    queue.storage.set_trial_user_attr(claim(queue), OWNER, {HOST: "elsewhere", PID: "1"})
    any_bench.silence()

    def lose(*_: object, **__: object) -> None:
        raise queue.storage.engine.dialect.loaded_dbapi.OperationalError("server closed the connection")

    with monkeypatch.context() as patch:
        patch.setattr(queue.storage.engine.dialect, "do_execute", lose)
        with pytest.raises(OperationalError):
            queue.entries()
    queue.recover_stale_trials()
    assert only(queue).state == "running"
    now += queue.grace_seconds
    queue.recover_stale_trials()
    assert only(queue).state == "interrupted"


@pytest.mark.parametrize(("written", "state"), [("released", "interrupted"), ("failure", "failed")])
def test_a_worker_that_is_killed_after_it_has_said_why_is_believed(
        written: str, state: str, bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason is written before the state: the death is none of the run's, and a failed run is not tried again."""
    queue = filled(bench)

    def die_after(queue: Queue) -> None:
        write = queue.storage.set_trial_user_attr

        def write_and_die(trial_id: int, key: str, value: object) -> None:
            write(trial_id, key, value)
            if key == written:
                os.kill(os.getpid(), signal.SIGKILL)

        monkeypatch.setattr(queue.storage, "set_trial_user_attr", write_and_die)
        trial_id = claim(queue)
        if written == "released":
            queue.release(trial_id, "SIGTERM received")
        else:
            queue.fail(trial_id, "oom", "no memory")

    bench.kill_after(die_after)
    queue.recover_stale_trials()
    assert only(queue).state == state
    for _ in range(MAX_DEATHS - 1 if written == "released" else 0):
        assert only(queue).state == "interrupted"
        die(queue)
    assert only(queue).state == state


def test_failed_runs_are_tried_again_all_or_by_their_kind(bench: Any) -> None:
    queue = filled(bench, 3)
    for kind in ("oom", "nonfinite", "oom"):
        queue.fail(claim(queue), kind, "why")
    assert [entry.root for entry in queue.retry_failed(["nonfinite"])] == [1]
    assert [entry.root for entry in queue.retry_failed()] == [0, 2]
    assert queue.retry_failed() == []
    assert [entry.history for entry in queue.entries()] == [[0, 4], [1, 3], [2, 5]]
