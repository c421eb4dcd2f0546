"""Runs that the tracking store calls RUNNING although nobody works on them, found and ended."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import psutil
from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_PROJECT_ENTRY_POINT

from inversion.tracking.connection import Connection
from inversion.tracking.owner import HOST, PID, owner_is_alive

Verdict = Literal["alive", "dead", "unknown"]
PAGE = 1000


class RunningRun(NamedTuple):
    """A run with status RUNNING, and whether anybody works on it."""

    run_id: str
    name: str
    verdict: Verdict
    why: str


def find_running(connection: Connection) -> list[RunningRun]:
    """All RUNNING runs of the experiment with a verdict each."""
    return [RunningRun(run.info.run_id, run.info.run_name or "", *_judge(run, connection.uri))
            for run in _running(connection)]


def end_dead(connection: Connection, runs: list[RunningRun]) -> list[RunningRun]:
    """Ends those that are dead as KILLED, with the reason as a tag; returns them."""
    dead = [run for run in runs if run.verdict == "dead"]
    for run in dead:
        connection.client.set_tag(run.run_id, "inversion.failure", "interrupted")
        connection.client.set_tag(run.run_id, "inversion.failure_message", f"found dead: {run.why}")
        connection.client.set_terminated(run.run_id, "KILLED")
    return dead


def _running(connection: Connection) -> Iterator[Run]:
    token = None
    while True:
        page = connection.client.search_runs([connection.experiment_id], "attributes.status = 'RUNNING'",
                                             max_results=PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _judge(run: Run, uri: str) -> tuple[Verdict, str]:
    tags = run.data.tags
    if PID in tags:
        alive = owner_is_alive(tags)
        where = f"process {tags[PID]} on {tags.get(HOST)}"
        if alive is None:
            return "unknown", f"{where}: look there, with inversion doctor"
        return ("alive", f"{where} works on it") if alive else ("dead", f"{where} is gone")
    if MLFLOW_PROJECT_ENTRY_POINT not in tags:
        return "unknown", "not begun by inversion"
    if uri.startswith(("http://", "https://")):
        return "unknown", "begun by an `mlflow run`, perhaps of another machine, whose command never started"
    if _mlflow_run_is_alive():
        return "alive", "an `mlflow run` is at work on this machine"
    return "dead", "the `mlflow run` that made it ended before its command started"


def _mlflow_run_is_alive() -> bool:
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "run" in words and any(word.endswith("mlflow") or word == "mlflow.cli" for word in words):
            return True
    return False
