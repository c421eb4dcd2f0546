"""What ``--remove``, ``--stop``, ``--resume`` and ``--rerun`` change: runs in the queue of a study.

A request is written to the queue, so that it works from every machine; workers notice it there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from inversion.console import make_console
from inversion.durations import show_duration
from inversion.errors import RequestError
from inversion.sweeps.opening import Options, open_existing, service_errors
from inversion.sweeps.queue.entry import WAITING, Entry, Snapshot, State
from inversion.sweeps.queue.removal import REMOVAL, remove_waiting
from inversion.sweeps.queue.selection import Change, select
from inversion.sweeps.study.commands import join_command
from inversion.sweeps.study.reconcile import record_change
from inversion.sweeps.study.study import Study
from inversion.sweeps.workers.driver import read_snapshot
from inversion.text import first_of
from inversion.tracking.connection import Connection
from inversion.tracking.lifecycle import find_active
from inversion.tracking.search import KIND
from inversion.tracking.study import SUPERSEDED, SUPERSEDED_AT, tag

BY_REQUEST = "stopped with --stop before a worker took it"

WAITS: Mapping[State, str] = {"queued": "it is waiting, and has not begun",
                              "interrupted": "it is waiting to be resumed"}

STOP = Change("stop", ("running", *WAITING), "running or waiting", "stopped", {
    "finished": "it is finished", "failed": "it has failed", "stopped": "it is stopped already",
    "timed out": "it has reached its limit"})
RESUME = Change("resume", ("stopped", "timed out", "failed"), "stopped, timed out or failed", "resumed", {
    **WAITS, "running": "it is running", "finished": "it is finished: --rerun starts it from the beginning"})
RERUN = Change("rerun", ("finished", "failed", "stopped", "timed out", "pruned"),
               "finished, failed, stopped, timed out or pruned", "rerun", {
    **WAITS, "running": "it is running: --stop it first",
    "not chosen": "another value was chosen for its configuration"})


@dataclass(frozen=True)
class Request:
    """One of the options.

    Attributes:
        change: Which runs it can change.
        apply: Changes them; returns those that had not changed meanwhile.
        then: What happens next, for the last line.
        starts: Whether a worker is needed next.
    """

    change: Change
    apply: Callable[[Study, Connection, Sequence[Entry]], list[Entry]]
    then: str
    starts: bool = False


def change_runs(name: str, option: str, patterns: Sequence[str], options: Options) -> int:
    """Changes some runs of a study, or with ``dry_run`` only shows which; returns the exit code.

    Args:
        name: of the study.
        option: one of ``REQUESTS``.
        patterns: numbers, names, patterns, or beginnings of ids of runs.
        options: of the command, by parameter name.

    Raises:
        UnknownNameError: there is no such study, or a pattern matches no run.
        RequestError: a pattern matches only runs that cannot be changed so.
        InversionError: the tracking store or the queue does not answer or rejects a request.
    """
    console, request = make_console(), REQUESTS[option]
    with service_errors():
        study, connection = open_existing(name, options)
        snapshot = read_snapshot(study.queue)
        wanted, others = select(snapshot, patterns, name, request.change)
        changed = wanted if options["dry_run"] else request.apply(study, connection, wanted)
        if changed and not options["dry_run"]:
            record_change(study, connection)
    done = request.change.done
    did = f"would be {done}" if options["dry_run"] else done
    for entry in changed:
        where = f" ({entry.owner['inversion.host']})" if entry.state == "running" and entry.owner else ""
        console.print(f"{did}: {entry.root}  {snapshot.label(entry)}{where}", soft_wrap=True)
    if missed := len(wanted) - len(changed):
        console.print(f"{missed} changed meanwhile and stay")
    if others:
        console.print(f"not {done}: {Snapshot(others, snapshot.at).counts_text}")
    then = request.then.format(seconds=study.queue.heartbeat_seconds)
    console.print(f"study {name}: {len(changed)} of {len(snapshot.entries)} runs {did}; {then}", soft_wrap=True)
    if request.starts and changed and not snapshot.having("running"):
        command = join_command(name, options["tracking_uri"], study.queue.storage.url)
        console.print(f"start a worker with: {command}", soft_wrap=True)
    return 0


def _remove(study: Study, connection: Connection, entries: Sequence[Entry]) -> list[Entry]:
    return remove_waiting(study.queue, entries)


def _stop(study: Study, connection: Connection, entries: Sequence[Entry]) -> list[Entry]:
    queue = study.queue
    return [entry for entry in entries
            if (queue.ask_to_stop(entry) if entry.state == "running" else queue.stop_waiting(entry, BY_REQUEST))]


def _resume(study: Study, connection: Connection, entries: Sequence[Entry]) -> list[Entry]:
    """Queues runs from their checkpoints.

    Raises:
        RequestError: one has reached the limit of the study, and would end at once.
    """
    limit = study.run_time
    if at_limit := [entry for entry in entries if entry.state == "timed out" and not entry.may_go_on(limit)]:
        names = first_of([f"{entry.root} {entry.name}" for entry in at_limit])
        raise RequestError(f"--resume: {names} reached the study's limit, run_time {show_duration(limit or 0)}. The "
                           "spec with a larger one continues what reached it.")
    return study.queue.resume(entries)


def _rerun(study: Study, connection: Connection, entries: Sequence[Entry]) -> list[Entry]:
    """Queues runs from the beginning; no pruner stops them. Their former runs stay in MLflow, as runs
    of another kind, which nothing ranks.

    A worker takes the result of a run with the same digest, so they are marked before the queue has the new ones; and
    once more, as a driver restores the tags of finished runs. Trials of a search may share a run: all of them do it
    again.
    """
    shared = {entry.run_id for entry in entries if entry.run_id}
    together = [entry for entry in study.queue.entries() if entry.run_id in shared and not entry.is_open]
    every = list({entry.root: entry for entry in [*entries, *together]}.values())
    _supersede(connection, shared)
    again = study.queue.redo(every, to_the_end=True)
    _supersede(connection, {entry.run_id for entry in again if entry.run_id})
    return again


def _supersede(connection: Connection, run_ids: set[str]) -> None:
    for run_id in run_ids:
        if find_active(connection, run_id) is not None:
            tag(connection, run_id, {KIND: SUPERSEDED, SUPERSEDED_AT: datetime.now(UTC).isoformat(timespec="seconds")})


REQUESTS: Mapping[str, Request] = {request.change.option: request for request in (
    Request(REMOVAL, _remove, "a spec that asks for them queues them again"),
    Request(STOP, _stop, "a running one ends after a step, within about {seconds} s, and is saved; --resume or --rerun "
            "queues it again"),
    Request(RESUME, _resume, "they continue from their last checkpoints", starts=True),
    Request(RERUN, _rerun, "they start from the beginning, and their former runs stay in MLflow, marked as superseded",
            starts=True))}
