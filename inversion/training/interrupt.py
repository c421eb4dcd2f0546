"""Being asked to stop: signals, and the death of the ``mlflow run`` that a training process belongs to."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

import psutil

POLL_SECONDS = 1.0


class StopRequest:
    """Set once, by whatever asks first; training looks at it after every step and stops at a safe point."""

    def __init__(self) -> None:
        self.reason: str | None = None

    def set(self, reason: str) -> None:
        """Asks to stop; a later reason does not replace the first."""
        self.reason = self.reason or reason


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """A request that SIGINT, SIGTERM and the end of the parent ``mlflow run`` set, while the block runs.

    A second Ctrl-C does not wait for the safe point. Outside the main thread only the parent is watched: Python
    allows signal handlers nowhere else.
    """
    request = StopRequest()

    def handle(number: int, frame: FrameType | None) -> None:
        if request.reason and number == signal.SIGINT:
            raise KeyboardInterrupt
        request.set(f"{signal.Signals(number).name} received")

    previous = {}
    if threading.current_thread() is threading.main_thread():
        previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    finished = threading.Event()
    launcher = find_mlflow_run()
    if launcher is not None:
        watcher = threading.Thread(target=_watch, args=(launcher, request, finished), daemon=True)
        watcher.start()
    try:
        yield request
    finally:
        finished.set()
        for number, handler in previous.items():
            signal.signal(number, handler)


def is_mlflow_run(words: Sequence[str]) -> bool:
    """Whether a command line is that of an ``mlflow run``."""
    return "run" in words and any(os.path.basename(word) == "mlflow" or word == "mlflow.cli" for word in words)


def find_mlflow_run() -> psutil.Process | None:
    """The ``mlflow run`` that started this process, if one did.

    It is the nearest ancestor that is no shell: with an environment to activate, MLflow puts a bash in between, which
    outlives it.
    """
    if "MLFLOW_RUN_ID" not in os.environ:
        return None
    try:
        for ancestor in psutil.Process().parents():
            if is_mlflow_run(ancestor.cmdline()):
                return ancestor
    except psutil.Error:  # an ancestor ended or belongs to somebody else: there is nothing to watch
        return None
    return None


def _watch(launcher: psutil.Process, request: StopRequest, finished: threading.Event) -> None:
    while not finished.wait(POLL_SECONDS):
        if not _is_alive(launcher):
            request.set(f"the `mlflow run` that started it (process {launcher.pid}) was killed")
            return


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:  # it ended between the two questions
        return False
