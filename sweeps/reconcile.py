"""Puts MLflow in line with the queue: no run stays RUNNING that nobody works on, and none that is done is called so."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from inversion.tracking.connection import Connection, is_server
from inversion.tracking.lifecycle import end_run
from inversion.tracking.owner import owner_is_alive, same_owner
from inversion.tracking.stale import end_dead, find_running, is_unchanged
from inversion.tracking.study import STUDY, children, tag
from sweeps.entry import Entry
from sweeps.queue import Queue
from sweeps.snapshot import Snapshot

if TYPE_CHECKING:
    from mlflow.entities import Run

RUNS = "inversion.runs"
"""Tag of a study: how many runs it has in each state."""


def reconcile(queue: Queue, connection: Connection, study: str) -> int:
    """Ends the study's RUNNING runs that no worker is at; returns how many.

    The queue says who works: a run whose trial is claimed is left alone. One that is on no trial has just been made,
    or is what a request to MLflow that came twice has left. The queue is mended first by whoever calls.
    """
    running = list(children(connection, study, "attributes.status = 'RUNNING'"))
    entries = _by_run(queue) if running else {}
    ended = 0
    for run in running:
        run_id = run.info.run_id
        if _is_worked_on(run, entries, queue.grace_seconds) or not is_unchanged(connection, run_id, run.data.tags):
            continue
        entries = _by_run(queue)  # whoever takes a run over claims its trial before
        if _is_worked_on(run, entries, queue.grace_seconds):
            continue
        if run_id in entries and entries[run_id].state == "finished":  # who had lost it called it RUNNING again
            end_run(connection.client, run_id, "FINISHED")
        else:
            end_run(connection.client, run_id, "KILLED", "interrupted", "found without a worker")
        ended += 1
    return ended


def end_others(connection: Connection, study: str) -> None:
    """Ends what else is dead in the experiment: runs and studies whose process is gone."""
    end_dead(connection, [run for run in find_running(connection) if run.tags.get(STUDY) != study])


def _by_run(queue: Queue) -> dict[str | None, Entry]:
    return {entry.run_id: entry for entry in sorted(queue.entries(), key=_says_more)}


def _says_more(entry: Entry) -> tuple[bool, bool]:
    """Trials of a search may come to the same run: one that works on it counts, then one that has finished it."""
    return entry.state == "running", entry.state == "finished"


def _is_worked_on(run: Run, entries: Mapping[str | None, Entry], grace_seconds: int) -> bool:
    if run.info.run_id in entries:
        return entries[run.info.run_id].state == "running"
    alive = owner_is_alive(run.data.tags)
    if alive and not any(same_owner(entry.owner, run.data.tags) for entry in entries.values() if entry.is_open):
        return True  # a worker of a queue that was lost
    return time.time() - run.info.start_time / 1000 < grace_seconds and alive is not False


def end_parent(connection: Connection, parent_id: str, snapshot: Snapshot) -> None:
    """Gives the parent run the status that tells how the study stands; while somebody works on it, that is RUNNING."""
    counts = _tag_counts(connection, parent_id, snapshot)
    if not snapshot.is_done:
        if not snapshot.having("running"):
            end_run(connection.client, parent_id, "KILLED", "interrupted", counts)
    elif snapshot.having("failed"):
        end_run(connection.client, parent_id, "FAILED", "runs", counts)
    else:
        end_run(connection.client, parent_id, "FINISHED")


def leave_queued(connection: Connection, parent_id: str, snapshot: Snapshot) -> None:
    """The same by whoever has only queued: while nobody works on it and something waits, that is SCHEDULED."""
    if snapshot.is_done or snapshot.having("running"):
        end_parent(connection, parent_id, snapshot)
    else:
        _tag_counts(connection, parent_id, snapshot)
        connection.client.update_run(parent_id, status="SCHEDULED")


def end_dead_parent(connection: Connection, parent_id: str, snapshot: Snapshot) -> None:
    """The same, if the driver that the parent run belongs to is dead, or nothing is left that it could do."""
    parent = connection.client.get_run(parent_id)
    alive = owner_is_alive(parent.data.tags, local=not is_server(connection.uri))
    if parent.info.status == "RUNNING" and (snapshot.is_done or alive is False):
        end_parent(connection, parent_id, snapshot)


def _tag_counts(connection: Connection, parent_id: str, snapshot: Snapshot) -> str:
    counts = ", ".join(f"{number} {state}" for state, number in snapshot.counts.items())
    tag(connection, parent_id, {RUNS: counts})
    return counts
