"""Workers as tasks on a Ray cluster, one for each share of a GPU.

Ray retries a task, on another node if necessary, when its process or node dies; it then claims from the queue again.
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
from inversion.sweeps.workers.worker import work
from inversion.tracking.address import require_reachable
from inversion.tracking.connection import ANSWER_SECONDS
from inversion.tracking.masking import first_line
from inversion.tracking.mlflow_run import stop_with_mlflow_run

ATTEMPTS = ("RAY_NUM_REDIS_GET_RETRIES", "1")
"""How often Ray retries an address that is no cluster. Its default of 20 takes 14 minutes."""


def work_on(spec: str) -> str:
    """The Ray task of a worker. Cancelling it sends a SIGINT.

    Returns the message of the error that ended the worker, else an empty string: not all errors can be pickled.
    """
    os.environ.pop("MLFLOW_RUN_ID", None)  # set if `mlflow run` started the cluster
    logging.getLogger("inversion").setLevel(logging.INFO)  # for the logs of runs
    try:
        with stop_with_mlflow_run() as stop:
            work(WorkerSpec.from_text(spec), stop)
    except InversionError as error:
        return first_line(error)
    return ""


class RayTasks:
    """``workers`` tasks (None: as many as fit) on an existing cluster; ``stores`` are addresses by their option."""

    def __init__(
        self, address: str, workers: int | None, gpus_per_run: float | None, stores: Mapping[str, str]
    ) -> None:
        self.ray = _connect(address)
        nodes = [node for node in self.ray.nodes() if node["Alive"]]
        require_reachable(stores, len({node["NodeManagerAddress"] for node in nodes}), "the Ray cluster")
        self.share, room = divide([node["Resources"] for node in nodes], gpus_per_run)
        self.count = workers or sum(room)
        self.per_machine = math.ceil(self.count / len(room))
        self.spec = ""
        self.pending: dict[Any, int] = {}
        self.messages: list[str] = []

    def start(self, spec: WorkerSpec) -> None:
        """Starts every worker, spread over the nodes."""
        self.spec = replace(spec, gpu=self.share > 0).to_text()
        for number in range(1, self.count + 1):
            self._start(number)

    def restart_dead(self, count_done: Callable[[], int]) -> list[str]:
        """Notes which workers failed. Ray itself restarts those that died, without reporting it."""
        finished, _ = self.ray.wait(list(self.pending), num_returns=len(self.pending), timeout=0)
        for reference in finished:
            number = self.pending.pop(reference)
            try:
                why = self.ray.get(reference)
            except Exception as error:  # Ray's own, or a bug of ours
                why = _cause(error)
            if why:
                self.messages.append(f"worker {number}: {why}")
            else:  # its node is being stopped: it has released its run, and is restarted elsewhere
                self._start(number)
        return []

    def count_alive(self) -> int:
        """How many workers have not finished; some may wait for resources of the cluster."""
        return len(self.pending)

    def errors(self) -> list[str]:
        """The last messages of workers that exited early."""
        return self.messages

    def stop(self) -> None:
        """Lets the workers save their checkpoints and requeue their runs, then leaves the cluster."""
        for reference in self.pending:
            self.ray.cancel(reference)
        if self.pending:
            self.ray.wait(list(self.pending), num_returns=len(self.pending), timeout=STOP_SECONDS)
        self.ray.shutdown()  # ends those that are left

    def _start(self, number: int) -> None:
        # One process per task (max_calls=1): the next one must not inherit its threads and GPU memory. Unlimited
        # retries: the queue knows which runs kill workers.
        task = self.ray.remote(num_gpus=self.share, max_retries=-1, max_calls=1, scheduling_strategy="SPREAD")(work_on)
        self.pending[task.remote(self.spec)] = number


def divide(nodes: Collection[Mapping[str, float]], share: float | None) -> tuple[float, list[int]]:
    """The share of a GPU for each worker, and how many workers fit on each node, from the nodes' resources.

    With a share of 0, each node gets one worker, whose run uses all its cores.

    Raises:
        RequestError: no node has room for a worker.
    """
    if share is None:
        share = float(any(node.get("GPU") for node in nodes))
    room = [math.floor(1 / share) * int(node.get("GPU", 0)) if share else 1 for node in nodes if node.get("CPU")]
    if not any(room):
        raise RequestError(f"--gpus-per-run {share:g}: no node of the cluster has a GPU" if share else
                           "no node of the Ray cluster has a CPU")
    return share, [number for number in room if number]


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
    except Exception as error:  # Ray's errors have no common base class
        raise RequestError(f"--ray {address}: no Ray cluster could be reached ({first_line(error)})") from error
    return ray


def _require_listener(address: str) -> None:
    """Raises a RequestError if nothing listens at ``HOST:PORT``; Ray resolves other addresses, such as ``auto``."""
    try:
        place = urlsplit(address if "://" in address else f"//{address}")
        if place.hostname and place.port:
            socket.create_connection((place.hostname, place.port), ANSWER_SECONDS).close()
    except (OSError, ValueError) as error:
        raise RequestError(f"--ray {address}: nothing answers there ({error})") from error


@contextmanager
def _own_handlers() -> Iterator[None]:
    """Restores the SIGTERM handler, which ``ray.init`` replaces by one that ends the process at once."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)


def _cause(error: Exception) -> str:
    cause = getattr(error, "cause", None)
    return first_line(cause if isinstance(cause, Exception) else error)
