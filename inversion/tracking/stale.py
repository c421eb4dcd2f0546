"""Runs that the tracking store calls RUNNING although nobody works on them, found and ended."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Literal, NamedTuple

import psutil
from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_PROJECT_ENTRY_POINT

from inversion.errors import RequestError
from inversion.tracking.connection import Connection, is_server
from inversion.tracking.deleted import find_active
from inversion.tracking.lifecycle import end_run, take_over
from inversion.tracking.locks import alone_at
from inversion.tracking.lookup import PAGE, find_run, pages, search_in
from inversion.tracking.mlflow_run import is_mlflow_run
from inversion.tracking.owner import HOST, PID, owner_is_alive, owner_tags, same_owner

ENTRY_POINTS = ({"encoder", "decoder"}, {"spec", "workers", "storage"}, {"study", "output", "memory_budget"})
"""Parameters by which a run of MLproject's entry points is known: ``main``, ``sweep`` and ``report``."""

Verdict = Literal["alive", "dead", "unknown"]


class RunningRun(NamedTuple):
    """A run with status RUNNING, whether anybody works on it, and its tags when that was seen."""

    run_id: str
    name: str
    verdict: Verdict
    why: str
    tags: Mapping[str, str]


def find_running(connection: Connection, everywhere: bool = False) -> list[RunningRun]:
    """All RUNNING runs of the experiment, with a verdict each; ``everywhere``: also ours in other experiments.

    A plain ``mlflow run`` puts its run into the experiment Default.
    """
    experiments = [connection.experiment_id]
    if everywhere:
        experiments = [experiment.experiment_id for experiment in pages(
            lambda token: connection.client.search_experiments(max_results=PAGE, page_token=token))]
    runs = search_in(connection, experiments, "attributes.status = 'RUNNING'")
    return [RunningRun(run.info.run_id, run.info.run_name or "", *_judge(run, connection.uri), run.data.tags)
            for run in runs if _is_ours(run) or run.info.experiment_id == connection.experiment_id]


def declared_dead(connection: Connection, run_id: str) -> RunningRun:
    """A run that somebody who knows says is dead.

    Raises:
        RequestError: no such run, or it is not RUNNING.
    """
    run = find_run(connection, run_id)
    if run.info.status != "RUNNING":
        raise RequestError(f"--end {run_id}: this run is {run.info.status}, not RUNNING")
    return RunningRun(run_id, run.info.run_name or "", "dead", "ended by inversion doctor --end", run.data.tags)


def end_dead(connection: Connection, runs: list[RunningRun]) -> list[RunningRun]:
    """Ends those that are dead as KILLED, with the reason as a tag; returns them."""
    ended = []
    for run in runs:
        if run.verdict == "dead" and is_unchanged(connection, run.run_id, run.tags):
            end_run(connection.client, run.run_id, "KILLED", "interrupted", f"found dead: {run.why}")
            ended.append(run)
    return ended


def is_unchanged(connection: Connection, run_id: str, tags: Mapping[str, str]) -> bool:
    """Whether a run is RUNNING still and its process the one of these tags: it may have been ended, taken over or
    deleted."""
    now = find_active(connection, run_id)
    return now is not None and now.info.status == "RUNNING" and same_owner(now.data.tags, tags)


def require_nobody_at(connection: Connection, run: Run) -> None:
    """Raises a RequestError if another process works on a run, or may: where nobody here can look, it is not dead."""
    if run.info.status != "RUNNING" or same_owner(run.data.tags, owner_tags()):
        return
    run_id, (verdict, why) = run.info.run_id, _judge(run, connection.uri)
    if verdict == "alive":
        raise RequestError(f"run {run_id} is being worked on by process {run.data.tags.get(PID)}. Stop that first.")
    if verdict == "unknown":
        raise RequestError(f"run {run_id} is RUNNING, and from here nobody can know whether it still is ({why}). Stop "
                           f"it there; if it is gone, end it with: inversion doctor --end {run_id}")


def take_over_alone(connection: Connection, run_id: str) -> None:
    """Makes a run that nobody works on one of this process; of several that ask at once, one gets it.

    That holds for the processes of one machine, or of one PostgreSQL database. Of two machines that ask a server in the
    same instant, one finds the other's name on its run soon, and gives up (``TrackedRun.confirm``).

    Raises:
        RequestError: somebody works on it, or may.
    """
    with alone_at(connection.uri):
        require_nobody_at(connection, find_run(connection, run_id))
        take_over(connection.client, run_id)


def take_over_adopted(connection: Connection, run_id: str) -> None:
    """Makes the run that ``mlflow run`` handed over one of this process.

    Raises:
        RequestError: it is deleted, has ended, or is another process's by now: the variable was left from before.
    """
    run = find_run(connection, run_id)
    if run.info.status not in ("RUNNING", "SCHEDULED"):
        raise RequestError(f"MLFLOW_RUN_ID: run {run_id} is {run.info.status}, and nothing is added to it. Unset the "
                           "variable; --resume goes on with an interrupted run.")
    if PID in run.data.tags:
        require_nobody_at(connection, run)
    take_over(connection.client, run_id)


def _is_ours(run: Run) -> bool:
    """Made by inversion, or by an ``mlflow run`` of one of MLproject's entry points, which logs its parameters."""
    logged = run.data.params.keys()
    return PID in run.data.tags or (
        MLFLOW_PROJECT_ENTRY_POINT in run.data.tags and any(names <= logged for names in ENTRY_POINTS))


def _judge(run: Run, uri: str) -> tuple[Verdict, str]:
    tags = run.data.tags
    if PID in tags:
        alive = owner_is_alive(tags, local=not is_server(uri))
        where = f"process {tags[PID]} on {tags.get(HOST)}"
        if alive is None and tags.get(HOST) == platform.node():
            return "unknown", f"{where}, in another container or another machine of that name: --end if it is gone"
        if alive is None:
            return "unknown", f"{where}: look there, with inversion doctor"
        return ("alive", f"{where} works on it") if alive else ("dead", f"{where} is gone")
    if not _is_ours(run):
        return "unknown", "not begun by inversion"
    if uri.startswith(("http://", "https://")):
        return "unknown", "begun by an `mlflow run`, perhaps of another machine, whose command never started"
    if _maker_may_be_alive(run):
        return "alive", "an `mlflow run` that may have made it is at work on this machine"
    return "dead", "the `mlflow run` that made it ended before its command started"


def _maker_may_be_alive(run: Run) -> bool:
    """Whether an ``mlflow run`` that is older than the run is at work here: it may be making its environment."""
    for process in psutil.process_iter(["cmdline", "create_time"]):
        if is_mlflow_run(process.info["cmdline"] or []) and process.info["create_time"] * 1000 <= run.info.start_time:
            return True
    return False
