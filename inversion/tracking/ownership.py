"""Which process owns a run: creating and taking over runs, and finding those whose process is gone."""

from __future__ import annotations

import functools
import os
import platform
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
from inversion.tracking.search import PAGE, find_run, pages, search_in
from inversion.training.stop import is_mlflow_run

HOST, PID, STARTED = "inversion.host", "inversion.pid", "inversion.process_started"
BOOT, NAMESPACE = "inversion.boot", "inversion.pid_namespace"
COMMIT = "inversion.commit"
VERSIONED = ("inversion", "torch", "torchvision", "timm", "lpips", "mlflow")
CLOCK_SECONDS = 30
"""Start times are counted from the boot, whose time of day moves when the clock is set."""

ENTRY_POINTS = ({"encoder", "decoder"}, {"spec", "workers", "storage"}, {"study", "output", "memory_budget"})
"""Parameters by which a run of MLproject's entry points is known: ``main``, ``sweep`` and ``report``."""

Verdict = Literal["alive", "dead", "unknown"]


def machine_tags() -> dict[str, str]:
    """What a process number holds for: the host, and on Linux its boot and the processes that are seen together.

    Names of hosts are not unique, and every container counts its processes from 1.
    """
    place = {HOST: platform.node()}
    with suppress(OSError):
        place[BOOT] = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    with suppress(OSError):
        place[NAMESPACE] = os.readlink("/proc/self/ns/pid")
    return place


def owner_tags() -> dict[str, str]:
    """Host, process, versions and commit of whoever calls."""
    process = psutil.Process()
    versions = {f"inversion.version.{package}": version(package) for package in VERSIONED}
    return {**machine_tags(), PID: str(process.pid), STARTED: f"{process.create_time():.2f}", **versions,
            **({COMMIT: commit} if (commit := _commit()) else {})}


@functools.cache
def _commit() -> str:
    """The commit that this code is checked out from, ``-dirty`` if it was changed since; empty if it is installed."""
    root = Path(inversion.__file__).parents[1]
    if not (root / ".git").exists():  # site-packages may lie inside somebody else's repository
        return ""
    words = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(words, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):  # no git here, or a checkout that it does not trust
        return ""


def same_owner(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Whether the tags of two runs name the same process."""
    times = [float(tags.get(STARTED, 0)) for tags in (one, other)]
    return (all(one.get(key) == other.get(key) for key in (HOST, BOOT, NAMESPACE, PID))
            and abs(times[0] - times[1]) < CLOCK_SECONDS)


def owner_is_alive(tags: Mapping[str, str], local: bool = False) -> bool | None:
    """Whether the process that the tags name still runs; None where this machine cannot know.

    ``local``: the tags are in a file of this machine, so that no other one of its name has written them.
    """
    place = machine_tags()
    if tags.get(HOST) != place[HOST] or not tags.get(PID, "").isdigit():
        return None
    if local and tags.get(BOOT, place.get(BOOT)) != place.get(BOOT):
        return False  # it was started anew since then
    if any(tags.get(key, value) != value for key, value in place.items()):  # early runs have the host alone
        return None
    try:
        process = psutil.Process(int(tags[PID]))
        same = abs(process.create_time() - float(tags.get(STARTED, "nan"))) < CLOCK_SECONDS
        return same and process.status() != psutil.STATUS_ZOMBIE  # where nobody waits for it, it is one for ever
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:  # somebody else's process has that number now, or it is ours under another user
        return None


def create_run(connection: Connection, name: str, tags: Mapping[str, str], source: str) -> str:
    """A new run of this process, with tags from the first moment on: it can be found however soon the process dies.

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
    """Makes an existing run one of this process, RUNNING; what its checkpoint still says of it is told again."""
    # first the owner: a RUNNING run of the process that was killed would be ended by `inversion doctor`
    client.log_batch(run_id, tags=[RunTag(key, value) for key, value in owner_tags().items()])
    client.update_run(run_id, status=RunStatus.to_string(RunStatus.RUNNING))
    remove_tags(client, run_id, FAILURE, FAILURE_MESSAGE, MICRO_BATCH)


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


def declare_dead(connection: Connection, run_id: str) -> RunningRun:
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


def require_unowned(connection: Connection, run: Run) -> None:
    """Raises a RequestError if another process works on a run, or may: where nobody here can look, it is not dead."""
    if run.info.status != "RUNNING" or same_owner(run.data.tags, owner_tags()):
        return
    run_id, (verdict, why) = run.info.run_id, _judge(run, connection.uri)
    if verdict == "alive":
        raise RequestError(f"run {run_id} is being worked on by process {run.data.tags.get(PID)}. Stop that first.")
    if verdict == "unknown":
        raise RequestError(f"run {run_id} is RUNNING, and from here nobody can know whether it still is ({why}). Stop "
                           f"it there; if it is gone, end it with: inversion doctor --end {run_id}")


def claim_run(connection: Connection, run_id: str) -> None:
    """Makes a run that nobody works on one of this process; of several that ask at once, one gets it.

    That holds for the processes of one machine, or of one PostgreSQL database. Of two machines that ask a server in the
    same instant, one finds the other's name on its run soon, and gives up (``TrackedRun.confirm``).

    Raises:
        RequestError: somebody works on it, or may.
    """
    with exclusive_lock(connection.uri):
        require_unowned(connection, find_run(connection, run_id))
        take_over(connection.client, run_id)


def claim_project_run(connection: Connection, run_id: str) -> None:
    """Makes the run that ``mlflow run`` handed over one of this process.

    Raises:
        RequestError: it is deleted, has ended, or is another process's by now: the variable was left from before.
    """
    run = find_run(connection, run_id)
    if run.info.status not in ("RUNNING", "SCHEDULED"):
        raise RequestError(f"MLFLOW_RUN_ID: run {run_id} is {run.info.status}, and nothing is added to it. Unset the "
                           "variable; --resume goes on with an interrupted run.")
    if PID in run.data.tags:
        require_unowned(connection, run)
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


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in some containers
        return str(os.getuid())
