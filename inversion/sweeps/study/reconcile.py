"""Puts MLflow in line with the queue: no run stays RUNNING that nobody works on, and none that is done is called so.

And the other way round: what somebody deleted in MLflow is not finished, whatever the queue says.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from inversion.sweeps.queue.entry import Entry
from inversion.sweeps.queue.queue import Queue
from inversion.sweeps.queue.snapshot import Snapshot
from inversion.sweeps.study.parent import put_below
from inversion.sweeps.study.study import Study
from inversion.tracking.address import is_server
from inversion.tracking.connection import Connection
from inversion.tracking.lifecycle import end_run, find_active
from inversion.tracking.ownership import HOST, PID, end_dead, find_running, is_unchanged, owner_is_alive
from inversion.tracking.search import KIND
from inversion.tracking.study import DIGEST, STUDY, children, find_members, find_parent, tag

if TYPE_CHECKING:
    from mlflow.entities import Run

RUNS = "inversion.runs"
"""Tag of a study: how many runs it has in each state."""

_logger = logging.getLogger(__name__)


def reconcile(queue: Queue, connection: Connection, study: str) -> int:
    """Ends the study's RUNNING runs that no worker is at; returns how many.

    The queue says who works: a run whose trial is claimed is left alone. One that is on no trial has just been made,
    or is what a request to MLflow that came twice has left. What a process works on that is no worker of this queue
    (``inversion train --resume``, a queue that was lost) is left alone unless that process is dead. The queue is mended
    first by whoever calls.
    """
    local = not is_server(connection.uri)
    running = list(children(connection, study, "attributes.status = 'RUNNING'"))
    entries = _by_run(queue) if running else {}
    ended = 0
    for run in running:
        run_id = run.info.run_id
        if _is_worked_on(run, entries, queue, local) or not is_unchanged(connection, run_id, run.data.tags):
            continue
        entries = _by_run(queue)  # whoever takes a run over claims its trial before
        if _is_worked_on(run, entries, queue, local):
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


def _is_worked_on(run: Run, entries: Mapping[str | None, Entry], queue: Queue, local: bool) -> bool:
    run_id, tags = run.info.run_id, run.data.tags
    if run_id in entries and entries[run_id].state == "running":
        return True
    alive = owner_is_alive(tags, local)
    if alive is False:
        return False
    if PID in tags and not queue.knows(tags):
        if alive is None:
            tell_of_unknown(run_id, tags[PID], tags.get(HOST, ""))
        return True
    return run_id not in entries and time.time() - run.info.start_time / 1000 < queue.grace_seconds


@functools.cache  # once
def tell_of_unknown(run_id: str, pid: str, host: str) -> None:
    """Says of a run that nobody here can know whether somebody works on it."""
    _logger.warning("run %s is RUNNING at process %s on %s, which is no worker of this queue and cannot be seen from "
                    "here: it is left alone. If it is gone: inversion doctor --end %s", run_id, pid, host, run_id)


def reconcile_members(study: Study, connection: Connection) -> list[Entry]:
    """Puts all runs of the study below its parent run, with the tags that they are found by, whoever edited them.

    Returns those that the queue calls finished, and that were deleted in MLflow or are gone for good.
    """
    parent = find_parent(connection, study.name, study.parent.run_id)
    there = {run.info.run_id: run for run in find_members(connection, study.name)}
    deleted = []
    for entry in study.queue.entries():
        if entry.run_id is None:
            continue
        run = there.get(entry.run_id) or find_active(connection, entry.run_id)
        if run is not None:
            there[entry.run_id] = run
            _identify(connection, run, study.name, entry)
        elif entry.state == "finished":
            deleted.append(entry)
    if parent is not None:
        put_below(connection, parent.info.run_id, there.values())
    return deleted


def _identify(connection: Connection, run: Run, study: str, entry: Entry) -> None:
    tags = {KIND: "run", STUDY: study} | ({DIGEST: entry.digest} if entry.digest else {})
    if any(run.data.tags.get(key) != value for key, value in tags.items()):
        tag(connection, run.info.run_id, tags)
        run.data.tags.update(tags)


def end_parent(connection: Connection, parent_id: str, snapshot: Snapshot) -> None:
    """Gives the parent run the status that tells how the study stands; while somebody works on it, that is RUNNING."""
    counts = _tag_counts(connection, parent_id, snapshot)
    if not snapshot.is_done:
        if not snapshot.having("running"):
            end_run(connection.client, parent_id, "KILLED", "interrupted", counts)
    elif snapshot.having("failed", "deleted"):
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
    parent = find_active(connection, parent_id)
    if parent is None or parent.info.status != "RUNNING":
        return
    if snapshot.is_done or owner_is_alive(parent.data.tags, local=not is_server(connection.uri)) is False:
        end_parent(connection, parent_id, snapshot)


def _tag_counts(connection: Connection, parent_id: str, snapshot: Snapshot) -> str:
    counts = ", ".join(f"{number} {state}" for state, number in snapshot.counts.items())
    tag(connection, parent_id, {RUNS: counts})
    return counts
