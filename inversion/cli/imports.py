"""Imports that take seconds. Kept free of other imports, because it is loaded before everything else."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from inversion.errors import InterruptedRunError


@contextmanager
def slow_imports() -> Iterator[None]:
    """While the block imports PyTorch, MLflow and the like, Ctrl-C ends the process at once with exit code 130.

    There is nothing to clean up yet, and a KeyboardInterrupt would not always arrive: libraries catch it while they
    probe for optional dependencies, and Python re-raises the signal if it interrupts code that they execute. A run
    created by ``mlflow run`` must be ended as KILLED, so there the KeyboardInterrupt is kept.
    """
    is_ours = threading.current_thread() is threading.main_thread() and "MLFLOW_RUN_ID" not in os.environ
    if not is_ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # keep a handler that was set
        yield
        return
    before = signal.signal(signal.SIGINT, _exit_interrupted)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _exit_interrupted(number: int, frame: FrameType | None) -> None:
    os.write(2, b"error: interrupted\n")  # a Python stream may hold its lock at this moment
    os._exit(InterruptedRunError.exit_code)
