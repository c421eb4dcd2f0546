"""Requests to stop: by a signal, or because the process that started this one has ended."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import psutil

from inversion.errors import InterruptedRunError, InversionError
from inversion.progress import Progress

POLL_SECONDS = 1.0


class StopRequest:
    """Set once, by whatever asks first; training looks at it before every step and stops at a safe point.

    A request with a ``parent`` is also set when that is: a worker's request stops the run it is at, while one that is
    made for a run does not stop the worker.
    """

    def __init__(self, parent: StopRequest | None = None) -> None:
        self._parent = parent
        self._reason: str | None = None
        self._error: type[InversionError] = InterruptedRunError

    @property
    def reason(self) -> str | None:
        """Why, or None as long as nobody has asked."""
        return self._reason or (self._parent.reason if self._parent else None)

    @property
    def error(self) -> type[InversionError]:
        """What the run that stops is ended with."""
        return self._error if self._reason or not self._parent else self._parent.error

    def set(self, reason: str, error: type[InversionError] = InterruptedRunError) -> None:
        """Asks to stop; a later request does not replace the first."""
        if self._reason is None:
            self._error = error
            self._reason = reason

    def raise_before_training(self) -> None:
        """Ends the work on a run that has not begun to train, if somebody asked to stop.

        Raises:
            InterruptedRunError: it was asked for; or another error that was set with the request.
        """
        if self.reason is not None:
            raise self.error(f"stopped before training: {self.reason}")

    def raise_in_wait(self, what: str) -> None:
        """Ends a wait for something that is away, if somebody asked to stop; ``what`` says what does not answer.

        Raises:
            InterruptedRunError: it was asked for; or another error that was set with the request.
        """
        if self.reason is not None:
            raise self.error(f"{self.reason}, while {what}")

    def wait(self, seconds: float) -> None:
        """Sleeps, but not on when somebody asks to stop. An event would do, were it safe to set in a signal handler."""
        deadline = time.monotonic() + seconds
        while self.reason is None and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, 0.1))


def interruptible(report: Progress, stop: StopRequest) -> Progress:
    """The same report, which ends the work when somebody asked to stop."""

    def report_or_stop(what: str, done: int, total: int) -> None:
        stop.raise_before_training()
        report(what, done, total)

    return report_or_stop


@contextmanager
def stop_on_signals(launcher: psutil.Process | None = None, name: str = "the process") -> Iterator[StopRequest]:
    """A request that SIGINT, SIGTERM and the end of the ``launcher`` set, while the block runs.

    A second Ctrl-C does not wait for the safe point. Outside the main thread only the launcher is watched: Python
    allows signal handlers nowhere else.

    Args:
        launcher: The process that started this one, if its end is to stop this one too.
        name: What the launcher is called in the reason of the request.
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
    if launcher is not None:
        watcher = threading.Thread(target=_watch, args=(name, launcher, request, finished), daemon=True)
        watcher.start()
    try:
        yield request
    finally:
        finished.set()
        for number, handler in previous.items():
            signal.signal(number, handler)


def _watch(name: str, launcher: psutil.Process, request: StopRequest, finished: threading.Event) -> None:
    while not finished.wait(POLL_SECONDS):
        if not _is_alive(launcher):
            request.set(f"{name} that started it (process {launcher.pid}) was killed")
            return


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:  # it ended between the two questions
        return False
