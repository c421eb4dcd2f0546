"""Imports that take seconds, during which a user may think better of it."""

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
    """While the block imports PyTorch, MLflow and the like, Ctrl-C ends the process at once, with exit code 130.

    Nothing has begun that would have to be tidied up, and a KeyboardInterrupt would not always arrive: libraries catch
    it as they try out what is installed, and Python ends by the signal if it was raised in code that they execute.
    A run that ``mlflow run`` has made is to be ended as KILLED, which the KeyboardInterrupt leads to.
    """
    alone = threading.current_thread() is threading.main_thread() and "MLFLOW_RUN_ID" not in os.environ
    if not alone or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # another one is right
        yield
        return
    before = signal.signal(signal.SIGINT, _leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _leave(number: int, frame: FrameType | None) -> None:
    os.write(2, b"error: interrupted\n")  # a stream might be at work just now
    os._exit(InterruptedRunError.exit_code)
