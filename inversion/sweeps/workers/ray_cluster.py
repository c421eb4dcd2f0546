"""Workers on a Ray cluster: a task for each share of a GPU, which does what a worker's process does.

Ray runs a task again, elsewhere if need be, when its process or its node dies; the queue gives it what is left to do.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import socket
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from inversion.errors import InversionError, RequestError
from inversion.sweeps.workers.local import STOP_SECONDS, WorkerSpec
from inversion.sweeps.workers.work import work
from inversion.tracking.connection import ANSWER_SECONDS
from inversion.tracking.masking import first_line, without_password
from inversion.tracking.mlflow_run import stop_with_mlflow_run

ATTEMPTS = ("RAY_NUM_REDIS_GET_RETRIES", "1")
"""How often Ray asks something that is no cluster before it gives up: 20 times, which takes 14 minutes."""

LOCAL_HOSTS = {"localhost", "127.0.0.1", "::1"}


def work_on(spec: str) -> str:
    """The task: works on a study until nothing is left of it, or until it is cancelled, which arrives as a SIGINT.

    Returns why it gave up, if it did: not every error of ours survives being sent.
    """
    os.environ.pop("MLFLOW_RUN_ID", None)  # of an `mlflow run` that started the cluster
    try:
        with stop_with_mlflow_run() as stop:
            work(WorkerSpec.from_text(spec), stop)
    except InversionError as error:
        return first_line(error)
    return ""


class RayTasks:
    """``workers`` tasks (as many as fit, unless told) on an existing cluster."""

    def __init__(
        self, address: str, workers: int | None, gpus_per_run: float | None, stores: Mapping[str, str]
    ) -> None:
        self.ray = _connect(address)
        nodes = [node for node in self.ray.nodes() if node["Alive"]]
        require_reachable(stores, {node["NodeManagerAddress"] for node in nodes})
        self.share, room = divide([node["Resources"] for node in nodes], gpus_per_run)
        self.count = workers or sum(room)
        self.per_machine = math.ceil(self.count / len(room))
        self.spec = ""
        self.pending: dict[Any, int] = {}
        self.said: list[str] = []

    def start(self, spec: WorkerSpec) -> None:
        """Starts every worker, spread over the nodes."""
        self.spec = replace(spec, gpu=self.share > 0).to_text()
        for number in range(1, self.count + 1):
            self._start(number)

    def tend(self, count_done: Callable[[], int]) -> list[str]:
        """Notes which workers failed; those that died, Ray starts again itself, and does not tell."""
        finished, _ = self.ray.wait(list(self.pending), num_returns=len(self.pending), timeout=0)
        for reference in finished:
            number = self.pending.pop(reference)
            try:
                why = self.ray.get(reference)
            except Exception as error:  # Ray's own, or a bug of ours
                why = _cause(error)
            if why:
                self.said.append(f"worker {number}: {why}")
            else:  # its node was told to stop: it gave its run back, and goes on elsewhere
                self._start(number)
        return []

    def working(self) -> int:
        """How many workers are not through; some may be waiting for room on the cluster."""
        return len(self.pending)

    def troubles(self) -> list[str]:
        """What the workers said that ended before the work did."""
        return self.said

    def stop(self) -> None:
        """Lets the workers save their checkpoints and give their runs back, then leaves the cluster."""
        for reference in self.pending:
            self.ray.cancel(reference)
        if self.pending:
            self.ray.wait(list(self.pending), num_returns=len(self.pending), timeout=STOP_SECONDS)
        self.ray.shutdown()  # ends those that are left

    def _start(self, number: int) -> None:
        # A process for each task: the next run would find its threads and its GPU memory. Endless retries: the queue
        # knows which runs kill workers.
        task = self.ray.remote(num_gpus=self.share, max_retries=-1, max_calls=1, scheduling_strategy="SPREAD")(work_on)
        self.pending[task.remote(self.spec)] = number


def divide(nodes: Collection[Mapping[str, float]], share: float | None) -> tuple[float, list[int]]:
    """The share of a GPU that a worker gets, and how many workers each node has room for, by the nodes' resources.

    A machine without a share of its GPUs has one worker: its cores are the run's.

    Raises:
        RequestError: no worker fits anywhere.
    """
    if share is None:
        share = float(any(node.get("GPU") for node in nodes))
    room = [math.floor(1 / share) * int(node.get("GPU", 0)) if share else 1 for node in nodes if node.get("CPU")]
    if not any(room):
        raise RequestError(f"--gpus-per-run {share:g}: no node of the cluster has a GPU" if share else
                           "no node of the Ray cluster has a CPU to work with")
    return share, [number for number in room if number]


def require_reachable(stores: Mapping[str, str], hosts: Collection[str]) -> None:
    """Raises a RequestError if workers on other machines would not find the queue or the tracking store.

    ``stores`` are addresses by the option that gives them.
    """
    for option, url in stores.items():
        place = urlsplit(url)
        local = place.scheme in ("", "file", "sqlite") or place.hostname in LOCAL_HOSTS
        if local and len(hosts) > 1:
            raise RequestError(f"{option} {without_password(url)} is for this machine alone, and the Ray cluster has "
                               f"{len(hosts)} machines: give a server by a name that all of them know.")


def _connect(address: str) -> Any:
    _require_listener(address)
    os.environ.setdefault(*ATTEMPTS)
    try:
        import ray
    except ImportError as error:
        raise RequestError("--ray needs Ray: pip install 'inversion[ray]'") from error
    try:
        with _own_handlers():
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False)
    except Exception as error:  # Ray has no common class for what can go wrong here
        raise RequestError(f"--ray {address}: no Ray cluster could be joined ({first_line(error)})") from error
    return ray


def _require_listener(address: str) -> None:
    """Raises a RequestError if nothing listens at ``HOST:PORT``; other addresses, as ``auto``, are Ray's to find."""
    try:
        place = urlsplit(address if "://" in address else f"//{address}")
        if place.hostname and place.port:
            socket.create_connection((place.hostname, place.port), ANSWER_SECONDS).close()
    except (OSError, ValueError) as error:
        raise RequestError(f"--ray {address}: nothing answers there ({error})") from error


@contextmanager
def _own_handlers() -> Iterator[None]:
    """Ray takes SIGTERM for itself, and would end the process at once."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)


def _cause(error: Exception) -> str:
    cause = getattr(error, "cause", None)
    return first_line(cause if isinstance(cause, Exception) else error)
