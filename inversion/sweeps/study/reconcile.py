"""Reconciles MLflow with the queue: a run is RUNNING in MLflow if and only if a worker has it.

Conversely, a run that was deleted in MLflow is not finished, whatever the queue says.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from inversion.sweeps.queue.entry import STOPPED, UNFINISHED, Entry, Snapshot
from inversion.sweeps.queue.queue import Queue
from inversion.sweeps.study.parent import log_runs, put_below
from inversion.sweeps.study.study import Study
from inversion.tracking.address import is_server
from inversion.tracking.connection import Connection
from inversion.tracking.lifecycle import end_run, find_active
from inversion.tracking.ownership import HOST, PID, end_dead, find_running, is_unchanged, owner_is_alive
from inversion.tracking.search import KIND
from inversion.tracking.study import DIGEST, RUNS, STUDY, children, find_members, find_parent, tag

if TYPE_CHECKING:
    from mlflow.entities import Run

_logger = logging.getLogger(__name__)


def reconcile(queue: Queue, connection: Connection, study: str, clock: Callable[[], float] = time.time) -> int:
    """Ends the study's RUNNING runs that no worker has; returns how many. Recover stale trials of the queue first.

    The queue is authoritative: a run whose trial is claimed is not changed. A run without a trial was just created, or
    is the duplicate of a repeated request to MLflow. A run of a process that is no worker of this queue
    (``inversion train --resume``, a queue that was lost) is not changed unless that process is dead.

    Args:
        queue: The queue of the study.
        connection: The study's experiment.
        study: Name of the study.
        clock: Seconds since the epoch; a new run gets a grace period to appear in the queue.
    """
    local = not is_server(connection.uri)
    newest = clock() - queue.grace_seconds
    running = list(children(connection, study, "attributes.status = 'RUNNING'"))
    entries = _by_run(queue) if running else {}
    ended = 0
    for run in running:
        run_id = run.info.run_id
        if _is_worked_on(run, entries, queue, local, newest) or not is_unchanged(connection, run_id, run.data.tags):
            continue
        entries = _by_run(queue)  # a worker claims the trial before it takes over the run
        if _is_worked_on(run, entries, queue, local, newest):
            continue
        if run_id in entries and entries[run_id].state == "finished":  # a worker that lost its lease restarted it
            end_run(connection.client, run_id, "FINISHED")
        else:
            end_run(connection.client, run_id, "KILLED", "interrupted", "found without a worker")
        ended += 1
    return ended


def end_others(connection: Connection, study: str) -> None:
    """Ends runs of other studies, and other parent runs, whose process is dead."""
    end_dead(connection, [run for run in find_running(connection) if run.tags.get(STUDY) != study])


def _by_run(queue: Queue) -> dict[str | None, Entry]:
    return {entry.run_id: entry for entry in sorted(queue.entries(), key=_precedence)}


def _precedence(entry: Entry) -> tuple[bool, bool]:
    """Trials of a search may share a run: a running trial takes precedence, then a finished one."""
    return entry.state == "running", entry.state == "finished"


def _is_worked_on(run: Run, entries: Mapping[str | None, Entry], queue: Queue, local: bool, newest: float) -> bool:
    """Whether some process has the run; one without a trial may if it was created after ``newest``."""
    run_id, tags = run.info.run_id, run.data.tags
    if run_id in entries and entries[run_id].state == "running":
        return True
    alive = owner_is_alive(tags, local)
    if alive is False:
        return False
    if PID in tags and not queue.knows(tags):
        if alive is None:
            warn_of_unknown_owner(run_id, tags[PID], tags.get(HOST, ""))
        return True
    return run_id not in entries and run.info.start_time / 1000 > newest


@functools.cache  # once
def warn_of_unknown_owner(run_id: str, pid: str, host: str) -> None:
    """Warns once that a run may be in use by a process that cannot be checked from here."""
    _logger.warning("run %s is RUNNING in process %s on %s, which is no worker of this queue and cannot be checked "
                    "from here: the run is not changed. If the process is gone: inversion doctor --end %s",
                    run_id, pid, host, run_id)


def reconcile_members(study: Study, connection: Connection) -> list[Entry]:
    """Restores parent and tags of all runs of the study, in case they were edited in MLflow.

    Returns the runs that are finished in the queue but deleted in MLflow.
    """
    parent = find_parent(connection, study.name, study.parent.run_id)
    runs = {run.info.run_id: run for run in find_members(connection, study.name)}
    deleted = []
    for entry in study.queue.entries():
        if entry.run_id is None:
            continue
        run = runs.get(entry.run_id) or find_active(connection, entry.run_id)
        if run is not None:
            runs[entry.run_id] = run
            _identify(connection, run, study.name, entry)
        elif entry.state == "finished":
            deleted.append(entry)
    if parent is not None:
        put_below(connection, parent.info.run_id, runs.values())
    return deleted


def _identify(connection: Connection, run: Run, study: str, entry: Entry) -> None:
    tags = {KIND: "run", STUDY: study} | ({DIGEST: entry.digest} if entry.digest else {})
    if any(run.data.tags.get(key) != value for key, value in tags.items()):
        tag(connection, run.info.run_id, tags)
        run.data.tags.update(tags)


def end_parent(connection: Connection, parent_id: str, snapshot: Snapshot) -> None:
    """Sets the status of the parent run from the study's; it stays RUNNING while a run is running."""
    counts = _tag_counts(connection, parent_id, snapshot)
    if not snapshot.is_done:
        if not snapshot.having("running"):
            end_run(connection.client, parent_id, "KILLED", "interrupted", counts)
    elif snapshot.having(*UNFINISHED):
        end_run(connection.client, parent_id, "FAILED", "runs", counts)
    elif snapshot.having("stopped"):
        end_run(connection.client, parent_id, "KILLED", STOPPED, counts)
    else:
        end_run(connection.client, parent_id, "FINISHED")


def leave_queued(connection: Connection, parent_id: str, snapshot: Snapshot) -> None:
    """Like ``end_parent``, after queueing only: SCHEDULED if runs are pending and none is running."""
    if snapshot.is_done or snapshot.having("running"):
        end_parent(connection, parent_id, snapshot)
    else:
        _tag_counts(connection, parent_id, snapshot)
        connection.client.update_run(parent_id, status="SCHEDULED")


def record_change(study: Study, connection: Connection) -> None:
    """Updates the parent run after a user changed the queue: its list of runs, its counts and its status."""
    parent = find_parent(connection, study.name, study.parent.run_id)
    if parent is None:
        return
    parent_id, entries = parent.info.run_id, study.queue.entries()
    log_runs(connection, parent_id, entries, study.queue.tuning(entries))
    snapshot = Snapshot(entries, datetime.now())
    if parent.info.status == "RUNNING" and owner_is_alive(parent.data.tags, not is_server(connection.uri)) is not False:
        _tag_counts(connection, parent_id, snapshot)  # its driver ends it
    elif entries:
        leave_queued(connection, parent_id, snapshot)


def end_dead_parent(connection: Connection, parent_id: str, snapshot: Snapshot) -> None:
    """Like ``end_parent``, but only if the driver of the parent run is dead, or the study is done."""
    parent = find_active(connection, parent_id)
    if parent is None or parent.info.status != "RUNNING":
        return
    if snapshot.is_done or owner_is_alive(parent.data.tags, local=not is_server(connection.uri)) is False:
        end_parent(connection, parent_id, snapshot)


def _tag_counts(connection: Connection, parent_id: str, snapshot: Snapshot) -> str:
    counts = snapshot.counts_text
    tag(connection, parent_id, {RUNS: counts})
    return counts
