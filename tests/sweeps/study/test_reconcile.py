"""MLflow says RUNNING of what is worked on, and of nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from inversion.sweeps.queue.entry import OWNER, Entry, Snapshot
from inversion.sweeps.queue.queue import Queue, Queued
from inversion.sweeps.study.reconcile import end_dead_parent, end_parent, leave_queued, reconcile
from inversion.tracking.connection import Connection, connect
from inversion.tracking.lifecycle import end_run
from inversion.tracking.ownership import HOST, PID, create_run, owner_tags, take_over
from inversion.tracking.search import KIND
from inversion.tracking.study import STUDY, StudyRun, begin_study

NAME = "ablation"
DEAD = {HOST: owner_tags()[HOST], PID: "4194305"}
ELSEWHERE = {HOST: "elsewhere", PID: "1"}


@pytest.fixture
def connection(workplace: Path) -> Connection:
    return connect()


@pytest.fixture
def queue(bench: Any) -> Queue:
    queue: Queue = bench.open()
    queue.add([Queued(f"run {number}", {}, f"digest {number}") for number in range(2)])
    return queue


def child(connection: Connection, **tags: str) -> str:
    """A RUNNING run of the study, of this process unless the tags say otherwise."""
    return create_run(connection, "run", {KIND: "run", STUDY: NAME, **tags}, "inversion-sweep")


def claim(queue: Queue, run_id: str | None = None) -> int:
    entry = queue.claim()
    assert entry is not None
    if run_id:
        queue.remember_run(entry.trial._trial_id, run_id)
    return entry.trial._trial_id


def status(connection: Connection, run_id: str) -> str:
    return str(connection.client.get_run(run_id).info.status)


def reasons(connection: Connection, run_id: str) -> tuple[str | None, str | None]:
    tags = connection.client.get_run(run_id).data.tags
    return tags.get("inversion.failure"), tags.get("inversion.failure_message")


def after_the_grace_period(queue: Queue) -> Callable[[], float]:
    """A clock at which a run that is created now should long have a trial."""
    return lambda: time.time() + queue.grace_seconds + 1


def look(queue: Queue) -> Snapshot:
    return Snapshot(queue.entries(), datetime.now())


def test_a_run_that_a_worker_is_at_is_left_alone_wherever_the_worker_is(connection: Connection, queue: Queue) -> None:
    """The queue decides: whose process number the run has says nothing, a worker may just be taking it over."""
    run_id = child(connection, **DEAD)
    claim(queue, run_id)
    assert reconcile(queue, connection, NAME) == 0
    assert status(connection, run_id) == "RUNNING"


@pytest.mark.parametrize("ending", ["release", "fail", "prune"])
def test_a_run_that_no_worker_is_at_any_more_is_ended(ending: str, connection: Connection, queue: Queue) -> None:
    """The worker died between telling the queue and telling MLflow; this process, whose tags it has, lives."""
    run_id = child(connection)
    trial_id = claim(queue, run_id)
    queue.fail(trial_id, "oom", "why") if ending == "fail" else getattr(queue, ending)(trial_id, "why")
    assert reconcile(queue, connection, NAME) == 1
    assert status(connection, run_id) == "KILLED"
    assert reasons(connection, run_id) == ("interrupted", "found without a worker")
    assert reconcile(queue, connection, NAME) == 0


def test_a_finished_run_that_a_worker_has_called_running_again_is_called_finished(
        connection: Connection, queue: Queue) -> None:
    run_id = child(connection)
    queue.complete(claim(queue), 1.0, run_id, {})
    assert reconcile(queue, connection, NAME) == 1
    assert status(connection, run_id) == "FINISHED"
    assert reasons(connection, run_id) == (None, None)


@pytest.mark.parametrize("owner", [{}, ELSEWHERE])
def test_a_run_that_has_just_been_made_may_come_onto_a_trial_yet(
        owner: dict[str, str], connection: Connection, queue: Queue) -> None:
    queue.storage.set_trial_user_attr(claim(queue), OWNER, owner_tags() | owner)
    run_id = child(connection, **owner)
    assert reconcile(queue, connection, NAME) == 0
    assert status(connection, run_id) == "RUNNING"
    assert reconcile(queue, connection, NAME, after_the_grace_period(queue)) == 1
    assert status(connection, run_id) == "KILLED"


def test_a_run_whose_maker_died_before_it_came_onto_a_trial_is_ended_at_once(
        connection: Connection, queue: Queue) -> None:
    run_id = child(connection, **DEAD)
    assert reconcile(queue, connection, NAME) == 1
    assert status(connection, run_id) == "KILLED"


@pytest.mark.parametrize("last", [False, True])
def test_of_trials_that_came_to_the_same_run_the_one_that_works_on_it_decides(
        last: bool, connection: Connection, queue: Queue) -> None:
    """A search may suggest the same twice; who comes second goes on with the run that the first has left."""
    run_id = child(connection)
    first, second = claim(queue, run_id), claim(queue, run_id)
    queue.prune(first if last else second, "the same as a run that another worker is at")
    assert reconcile(queue, connection, NAME) == 0
    assert status(connection, run_id) == "RUNNING"
    queue.complete(second if last else first, 1.0, run_id, {})
    assert reconcile(queue, connection, NAME) == 1
    assert status(connection, run_id) == "FINISHED"


def between(monkeypatch: pytest.MonkeyPatch, queue: Queue, happens: Callable[[], object]) -> None:
    """Lets something happen after the queue was read for the first time and before anything is ended."""
    read, left = queue.entries, [happens]

    def read_then() -> list[Entry]:
        entries = read()
        if left:
            left.pop()()
        return entries

    monkeypatch.setattr(queue, "entries", read_then)


def test_a_run_that_ends_properly_before_it_is_ended_stays_as_it_ended(
        connection: Connection, queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = child(connection)
    queue.fail(claim(queue, run_id), "oom", "no memory")
    between(monkeypatch, queue, lambda: end_run(connection.client, run_id, "FAILED", "oom", "no memory"))
    assert reconcile(queue, connection, NAME) == 0
    assert (status(connection, run_id), reasons(connection, run_id)) == ("FAILED", ("oom", "no memory"))


@pytest.mark.parametrize("by", ["another process", "the same process"])
def test_a_run_that_is_taken_over_before_it_is_ended_goes_on(
        by: str, connection: Connection, queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = child(connection, **(DEAD if by == "another process" else {}))
    queue.release(claim(queue, run_id), "stopped")

    def take() -> None:
        queue._waiting = []
        claim(queue)
        take_over(connection.client, run_id)

    between(monkeypatch, queue, take)
    assert reconcile(queue, connection, NAME) == 0
    assert (status(connection, run_id), reasons(connection, run_id)) == ("RUNNING", (None, None))


def test_what_a_living_process_of_another_queue_works_on_is_left_alone(
        connection: Connection, queue: Queue) -> None:
    """The file of the first queue was lost, and its workers go on."""
    run_id = child(connection)
    assert reconcile(queue, connection, NAME, after_the_grace_period(queue)) == 0
    assert status(connection, run_id) == "RUNNING"


@pytest.mark.parametrize("known", [False, True])
def test_where_nobody_here_can_look_a_run_is_not_dead(
        known: bool, connection: Connection, queue: Queue,
        caplog: pytest.LogCaptureFixture) -> None:
    """Somebody elsewhere goes on with it by hand, or for a queue that was lost: it is no worker of this one."""
    run_id = child(connection, **ELSEWHERE)
    trial_id = claim(queue, run_id if known else None)
    queue.release(trial_id, "stopped")
    for _ in range(2):
        assert reconcile(queue, connection, NAME, after_the_grace_period(queue)) == 0
    assert status(connection, run_id) == "RUNNING"
    line, = (record.getMessage() for record in caplog.records)
    assert "RUNNING in process 1 on elsewhere" in line
    assert f"inversion doctor --end {run_id}" in line


def test_what_is_not_running_and_what_is_not_the_studys_is_left_alone(connection: Connection, queue: Queue) -> None:
    failed = child(connection)
    end_run(connection.client, failed, "FAILED", "oom", "no memory")
    queue.fail(claim(queue, failed), "oom", "no memory")
    other = child(connection, **{STUDY: "other", **DEAD})
    single = create_run(connection, "run", {KIND: "run", **DEAD}, "inversion")
    assert reconcile(queue, connection, NAME) == 0
    assert [status(connection, run_id) for run_id in (failed, other, single)] == ["FAILED", "RUNNING", "RUNNING"]
    assert reasons(connection, failed) == ("oom", "no memory")


def parent(connection: Connection, **tags: str) -> StudyRun:
    return begin_study(connection, NAME, tags)


def test_a_study_that_is_done_is_finished(connection: Connection, queue: Queue) -> None:
    run_id = parent(connection).run_id
    queue.complete(claim(queue), 1.0, "id", {})
    queue.prune(claim(queue), "not promising")
    end_parent(connection, run_id, look(queue))
    assert (status(connection, run_id), reasons(connection, run_id)) == ("FINISHED", (None, None))
    assert connection.client.get_run(run_id).data.tags["inversion.runs"] == "1 finished, 1 pruned"


def test_a_study_with_a_run_that_failed_has_failed(connection: Connection, queue: Queue) -> None:
    run_id = parent(connection).run_id
    queue.complete(claim(queue), 1.0, "id", {})
    queue.fail(claim(queue), "oom", "no memory")
    end_parent(connection, run_id, look(queue))
    assert (status(connection, run_id), reasons(connection, run_id)) == ("FAILED", ("runs", "1 finished, 1 failed"))


def test_a_study_that_somebody_works_on_is_running(connection: Connection, queue: Queue) -> None:
    run_id = parent(connection).run_id
    claim(queue)
    end_parent(connection, run_id, look(queue))
    assert status(connection, run_id) == "RUNNING"
    assert connection.client.get_run(run_id).data.tags["inversion.runs"] == "1 queued, 1 running"


def test_a_study_with_work_left_that_nobody_is_at_is_killed(connection: Connection, queue: Queue) -> None:
    run_id = parent(connection).run_id
    queue.fail(claim(queue), "oom", "no memory")
    end_parent(connection, run_id, look(queue))
    assert status(connection, run_id) == "KILLED"
    assert reasons(connection, run_id) == ("interrupted", "1 queued, 1 failed")


def test_a_study_that_was_only_queued_is_scheduled_unless_somebody_works_on_it(
        connection: Connection, queue: Queue) -> None:
    run_id = parent(connection).run_id
    leave_queued(connection, run_id, look(queue))
    assert (status(connection, run_id), reasons(connection, run_id)) == ("SCHEDULED", (None, None))
    assert connection.client.get_run(run_id).data.tags["inversion.runs"] == "2 queued"
    end_dead_parent(connection, run_id, look(queue))
    assert status(connection, run_id) == "SCHEDULED"
    parent(connection)
    trials = claim(queue), claim(queue)
    leave_queued(connection, run_id, look(queue))
    assert status(connection, run_id) == "RUNNING"
    for trial_id in trials:
        queue.complete(trial_id, 1.0, "id", {})
    leave_queued(connection, run_id, look(queue))
    assert status(connection, run_id) == "FINISHED"


def test_who_only_looks_ends_a_study_whose_driver_is_dead_or_that_is_done(
        connection: Connection, queue: Queue) -> None:
    run_id = parent(connection).run_id
    end_dead_parent(connection, run_id, look(queue))
    assert status(connection, run_id) == "RUNNING"  # its driver is this process
    for key, value in ELSEWHERE.items():
        connection.client.set_tag(run_id, key, value)
    end_dead_parent(connection, run_id, look(queue))
    assert status(connection, run_id) == "RUNNING"  # nobody knows
    for key, value in DEAD.items():
        connection.client.set_tag(run_id, key, value)
    end_dead_parent(connection, run_id, look(queue))
    assert status(connection, run_id) == "KILLED"
    connection.client.update_run(run_id, status="RUNNING")
    for key, value in owner_tags().items():
        connection.client.set_tag(run_id, key, value)
    for _ in range(2):
        queue.complete(claim(queue), 1.0, "id", {})
    end_dead_parent(connection, run_id, look(queue))
    assert status(connection, run_id) == "FINISHED"


def test_who_only_looks_leaves_an_ended_study_as_it_is(connection: Connection, queue: Queue) -> None:
    run_id = parent(connection).run_id
    for key, value in DEAD.items():
        connection.client.set_tag(run_id, key, value)
    end_run(connection.client, run_id, "FAILED", "runs", "1 failed")
    end_dead_parent(connection, run_id, look(queue))
    assert (status(connection, run_id), reasons(connection, run_id)) == ("FAILED", ("runs", "1 failed"))
