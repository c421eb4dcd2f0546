"""Runs that the tracking store calls RUNNING although nobody works on them, found and ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple, TypeVar

import psutil
from mlflow.entities import Run
from mlflow.store.entities import PagedList
from mlflow.utils.mlflow_tags import MLFLOW_PROJECT_ENTRY_POINT

from inversion.errors import RequestError
from inversion.tracking.connection import Connection
from inversion.tracking.lookup import find_run
from inversion.tracking.owner import HOST, PID, owner_is_alive
from inversion.training.interrupt import is_mlflow_run

T = TypeVar("T")
Verdict = Literal["alive", "dead", "unknown"]
PAGE = 1000


class RunningRun(NamedTuple):
    """A run with status RUNNING, and whether anybody works on it."""

    run_id: str
    name: str
    verdict: Verdict
    why: str


def find_running(connection: Connection, everywhere: bool = False) -> list[RunningRun]:
    """All RUNNING runs of the experiment, with a verdict each; ``everywhere``: also ours in other experiments.

    A plain ``mlflow run`` puts its run into the experiment Default.
    """
    experiments = [connection.experiment_id]
    if everywhere:
        experiments = [experiment.experiment_id for experiment in _pages(
            lambda token: connection.client.search_experiments(max_results=PAGE, page_token=token))]
    runs: Iterator[Run] = _pages(lambda token: connection.client.search_runs(
        experiments, "attributes.status = 'RUNNING'", max_results=PAGE, page_token=token))
    return [RunningRun(run.info.run_id, run.info.run_name or "", *_judge(run, connection.uri))
            for run in runs if _is_ours(run) or run.info.experiment_id == connection.experiment_id]


def declared_dead(connection: Connection, run_id: str) -> RunningRun:
    """A run that somebody who knows says is dead.

    Raises:
        RequestError: no such run, or it is not RUNNING.
    """
    run = find_run(connection, run_id)
    if run.info.status != "RUNNING":
        raise RequestError(f"--end {run_id}: this run is {run.info.status}, not RUNNING")
    return RunningRun(run_id, run.info.run_name or "", "dead", "ended by inversion doctor --end")


def end_dead(connection: Connection, runs: list[RunningRun]) -> list[RunningRun]:
    """Ends those that are dead as KILLED, with the reason as a tag; returns them."""
    dead = [run for run in runs if run.verdict == "dead"]
    for run in dead:
        connection.client.set_tag(run.run_id, "inversion.failure", "interrupted")
        connection.client.set_tag(run.run_id, "inversion.failure_message", f"found dead: {run.why}")
        connection.client.set_terminated(run.run_id, "KILLED")
    return dead


def _pages(search: Callable[[str | None], PagedList[T]]) -> Iterator[T]:
    token = None
    while True:
        page = search(token)
        yield from page
        token = page.token
        if not token:
            return


def _is_ours(run: Run) -> bool:
    """Trained by inversion, or made by an ``mlflow run`` of the entry point ``main``, which logs its parameters."""
    return PID in run.data.tags or (
        MLFLOW_PROJECT_ENTRY_POINT in run.data.tags and {"encoder", "decoder"} <= run.data.params.keys())


def _judge(run: Run, uri: str) -> tuple[Verdict, str]:
    tags = run.data.tags
    if PID in tags:
        alive = owner_is_alive(tags)
        where = f"process {tags[PID]} on {tags.get(HOST)}"
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
