"""Which process owns a run: creating and taking over runs, and ending those whose process is gone."""

from __future__ import annotations

import functools
import os
import platform
import re
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Literal, NamedTuple

import psutil
from mlflow.entities import Run, RunStatus, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PROJECT_ENTRY_POINT, MLFLOW_SOURCE_NAME, MLFLOW_SOURCE_TYPE, MLFLOW_USER

import inversion
from inversion.errors import RequestError
from inversion.tracking.address import is_server
from inversion.tracking.connection import Connection
from inversion.tracking.lifecycle import (
    FAILURE,
    FAILURE_MESSAGE,
    MICRO_BATCH,
    deletion_behind,
    end_run,
    find_active,
    remove_tags,
)
from inversion.tracking.locks import exclusive_lock
from inversion.tracking.mlflow_run import is_mlflow_run
from inversion.tracking.search import PAGE, find_run, pages, search_in

HOST, PID, STARTED = "inversion.host", "inversion.pid", "inversion.process_started"
BOOT, NAMESPACE = "inversion.boot", "inversion.pid_namespace"
COMMIT = "inversion.commit"
VERSIONED = ("inversion", "torch", "torchvision", "timm", "lpips", "mlflow")
PROCESS_ID = re.compile("[0-9]{1,18}")
CLOCK_SECONDS = 30
"""Tolerance for start times, which shift when the clock is set: they are counted from the boot."""

ENTRY_POINTS = ({"encoder", "decoder"}, {"spec", "workers", "storage"}, {"study", "output", "memory_budget"})
"""Parameters that identify a run of MLproject's entry points: ``main``, ``sweep`` and ``report``."""

Verdict = Literal["alive", "dead", "unknown"]


def machine_tags() -> dict[str, str]:
    """The scope in which a process id is unique: the host, and on Linux its boot and the PID namespace.

    Host names are not unique, and every container has process ids from 1.
    """
    place = {HOST: platform.node()}
    with suppress(OSError):
        place[BOOT] = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    with suppress(OSError):
        place[NAMESPACE] = os.readlink("/proc/self/ns/pid")
    return place


def owner_tags() -> dict[str, str]:
    """Host, process, package versions and commit of this process."""
    process = psutil.Process()
    versions = {f"inversion.version.{package}": version(package) for package in VERSIONED}
    versions["inversion.version.python"] = platform.python_version()
    return {**machine_tags(), PID: str(process.pid), STARTED: f"{process.create_time():.2f}", **versions,
            **({COMMIT: commit} if (commit := _commit()) else {})}


@functools.cache
def _commit() -> str:
    """The commit of this checkout, with ``-dirty`` if it has changes; empty if the package is installed."""
    root = Path(inversion.__file__).parents[1]
    if not (root / ".git").exists():  # site-packages may be inside another repository
        return ""
    words = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(words, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):  # no git, or a checkout that it does not trust
        return ""


def same_owner(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Whether the tags of two runs name the same process."""
    if any(one.get(key) != other.get(key) for key in (HOST, BOOT, NAMESPACE, PID)):
        return False
    times = [started for tags in (one, other) if (started := _number(tags.get(STARTED, "0"))) is not None]
    return len(times) == 2 and abs(times[0] - times[1]) < CLOCK_SECONDS


def owner_is_alive(tags: Mapping[str, str], local: bool = False) -> bool | None:
    """Whether the process named by a run's tags is alive; None if this machine cannot know.

    Users can edit tags in MLflow's UI: where one has no meaning, nothing is known.

    Args:
        tags: the tags of the run.
        local: whether the store is local, so that another machine of the same name cannot have written the tags.
    """
    place = machine_tags()
    started = _number(tags.get(STARTED, "nan"))
    if tags.get(HOST) != place[HOST] or not PROCESS_ID.fullmatch(tags.get(PID, "")) or started is None:
        return None
    if local and tags.get(BOOT, place.get(BOOT)) != place.get(BOOT):
        return False  # the machine was rebooted since
    if any(tags.get(key, value) != value for key, value in place.items()):  # runs of early versions have the host only
        return None
    try:
        process = psutil.Process(int(tags[PID]))
        same = abs(process.create_time() - started) < CLOCK_SECONDS
        return same and process.status() != psutil.STATUS_ZOMBIE  # a zombie without a waiting parent stays one
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:  # a process of another user, which may be the owner or not
        return None


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def create_run(connection: Connection, name: str, tags: Mapping[str, str], source: str) -> str:
    """Creates a run of this process, with its tags from the start: it can be found even if the process dies at once.

    Raises:
        ExperimentDeletedError: the experiment was deleted since this process connected to it.
    """
    made_by = {MLFLOW_SOURCE_NAME: source, MLFLOW_SOURCE_TYPE: "LOCAL", MLFLOW_USER: _user()}
    try:
        run = connection.client.create_run(connection.experiment_id, tags={**made_by, **owner_tags(), **tags},
                                           run_name=name)
    except MlflowException as error:
        if (deletion := deletion_behind(connection, error)) is None:
            raise
        raise deletion from error
    return str(run.info.run_id)


def take_over(client: MlflowClient, run_id: str) -> None:
    """Makes this process the owner of a run, whoever owned it, and the run RUNNING; removes its failure tags."""
    # owner first: `inversion doctor` would end a RUNNING run whose owner was killed
    client.log_batch(run_id, tags=[RunTag(key, value) for key, value in owner_tags().items()])
    client.update_run(run_id, status=RunStatus.to_string(RunStatus.RUNNING))
    remove_tags(client, run_id, FAILURE, FAILURE_MESSAGE, MICRO_BATCH)


class RunningRun(NamedTuple):
    """A run with status RUNNING, whether its process is alive, and the tags by which that was judged."""

    run_id: str
    name: str
    verdict: Verdict
    why: str
    tags: Mapping[str, str]


def find_running(connection: Connection, everywhere: bool = False) -> list[RunningRun]:
    """All RUNNING runs of the experiment, each with a verdict.

    ``everywhere`` adds inversion's runs of all other experiments: ``mlflow run`` uses Default unless another is given.
    """
    experiments = [connection.experiment_id]
    if everywhere:
        experiments = [experiment.experiment_id for experiment in pages(
            lambda token: connection.client.search_experiments(max_results=PAGE, page_token=token))]
    runs = search_in(connection, experiments, "attributes.status = 'RUNNING'")
    return [RunningRun(run.info.run_id, run.info.run_name or "", *_judge(run, connection.uri), run.data.tags)
            for run in runs if _is_ours(run) or run.info.experiment_id == connection.experiment_id]


def declare_dead(connection: Connection, run_id: str) -> RunningRun:
    """A RUNNING run that the user declares dead.

    Raises:
        RequestError: no such run, or it is not RUNNING.
    """
    run = find_run(connection, run_id)
    if run.info.status != "RUNNING":
        raise RequestError(f"--end {run_id}: this run is {run.info.status}, not RUNNING")
    return RunningRun(run_id, run.info.run_name or "", "dead", "ended by inversion doctor --end", run.data.tags)


def end_dead(connection: Connection, runs: list[RunningRun]) -> list[RunningRun]:
    """Ends dead runs as KILLED, with the reason as a tag; returns those that it has ended."""
    ended = []
    for run in runs:
        if run.verdict == "dead" and is_unchanged(connection, run.run_id, run.tags):
            end_run(connection.client, run.run_id, "KILLED", "interrupted", f"found dead: {run.why}")
            ended.append(run)
    return ended


def is_unchanged(connection: Connection, run_id: str, tags: Mapping[str, str]) -> bool:
    """Whether a run is still RUNNING and owned by the process of these tags, not ended, taken over or deleted."""
    now = find_active(connection, run_id)
    return now is not None and now.info.status == "RUNNING" and same_owner(now.data.tags, tags)


def require_unowned(connection: Connection, run: Run) -> None:
    """Raises a RequestError if another process owns a run and is alive, or may be: unknown counts as alive."""
    if run.info.status != "RUNNING" or same_owner(run.data.tags, owner_tags()):
        return
    run_id, (verdict, why) = run.info.run_id, _judge(run, connection.uri)
    if verdict == "alive":
        raise RequestError(f"run {run_id} is in progress in process {run.data.tags.get(PID)}. Stop that first.")
    if verdict == "unknown":
        raise RequestError(f"run {run_id} is RUNNING, and whether its process is alive cannot be checked from here "
                           f"({why}). Stop it there; if it is gone, end the run with: inversion doctor --end {run_id}")


def claim_run(connection: Connection, run_id: str) -> None:
    """Takes over a run without a live owner; of several processes that try at once, one gets it.

    This is exact for processes of one machine or of one PostgreSQL database. If two machines claim a run of a server in
    the same instant, one of them soon finds the other's tags on the run and stops (``TrackedRun.confirm``).

    Raises:
        RequestError: another process owns the run, or may.
    """
    with exclusive_lock(connection.uri):
        require_unowned(connection, find_run(connection, run_id))
        take_over(connection.client, run_id)


def claim_project_run(connection: Connection, run_id: str) -> None:
    """Takes over the run that ``mlflow run`` has created for this process.

    Raises:
        RequestError: it is deleted, has ended, or has another owner: ``MLFLOW_RUN_ID`` is left over from before.
    """
    run = find_run(connection, run_id)
    if run.info.status not in ("RUNNING", "SCHEDULED"):
        raise RequestError(f"MLFLOW_RUN_ID: run {run_id} is {run.info.status}, and nothing is added to it. Unset the "
                           "variable; --resume resumes an interrupted run.")
    if PID in run.data.tags:
        require_unowned(connection, run)
    take_over(connection.client, run_id)


def _is_ours(run: Run) -> bool:
    """Whether a run was created by inversion, or by ``mlflow run`` of an entry point, which logs its parameters."""
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
            return "unknown", f"{where}: check it there with inversion doctor"
        return ("alive", f"{where} is alive") if alive else ("dead", f"{where} is gone")
    if not _is_ours(run):
        return "unknown", "not created by inversion"
    if uri.startswith(("http://", "https://")):
        return "unknown", "created by an `mlflow run`, perhaps on another machine, whose command never started"
    if _creator_may_be_alive(run):
        return "alive", "an `mlflow run` that may have created it is in progress on this machine"
    return "dead", "the `mlflow run` that created it ended before its command started"


def _creator_may_be_alive(run: Run) -> bool:
    """Whether an ``mlflow run`` older than the run is alive on this machine: it may be building its environment."""
    for process in psutil.process_iter(["cmdline", "create_time"]):
        if is_mlflow_run(process.info["cmdline"] or []) and process.info["create_time"] * 1000 <= run.info.start_time:
            return True
    return False


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in some containers
        return str(os.getuid())
