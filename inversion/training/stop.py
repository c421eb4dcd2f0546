"""Requests to stop: by a signal, or because the process that started this one has ended."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import FrameType

import psutil

from inversion.durations import show_duration
from inversion.errors import InterruptedRunError, InversionError, TimeLimitError
from inversion.progress import Progress

POLL_SECONDS = 1.0

_of_signals: list[StopRequest] = []
"""The requests that signals set now, the innermost last."""


class StopRequest:
    """A request to stop. Training checks it before every step, saves a checkpoint and ends.

    Args:
        parent: a request that sets this one too. A worker's request stops its runs, while the request of one run does
            not stop the worker.
        run_time: seconds of training and validation after which the run ends; None for no limit.
    """

    def __init__(self, parent: StopRequest | None = None, run_time: float | None = None) -> None:
        self._parent = parent
        self.run_time = run_time
        self._reason: str | None = None
        self._error: type[InversionError] = InterruptedRunError

    @property
    def reason(self) -> str | None:
        """Why a stop was requested; None if it was not."""
        return self._reason or (self._parent.reason if self._parent else None)

    @property
    def error(self) -> type[InversionError]:
        """The class of the exception that ends the run."""
        return self._error if self._reason or not self._parent else self._parent.error

    def set(self, reason: str, error: type[InversionError] = InterruptedRunError) -> None:
        """Requests a stop; only the first call has an effect."""
        if self._reason is None:
            self._error = error
            self._reason = reason

    def limit_time(self, seconds: float) -> None:
        """Requests a stop if a run that has trained for so many seconds has reached its limit."""
        if self.run_time is not None and seconds >= self.run_time:
            self.set(f"it has trained for {show_duration(seconds)}, and run_time is limited to "
                     f"{show_duration(self.run_time)}", TimeLimitError)

    def raise_before_training(self) -> None:
        """Ends a run that has not started training, if a stop was requested.

        Raises:
            InterruptedRunError: a stop was requested; or the error that was set with the request.
        """
        if self.reason is not None:
            raise self.error(f"stopped before training: {self.reason}")

    def raise_in_wait(self, what: str) -> None:
        """Ends a wait, if a stop was requested; ``what`` completes the message "REASON, while …".

        Raises:
            InterruptedRunError: a stop was requested; or the error that was set with the request.
        """
        if self.reason is not None:
            raise self.error(f"{self.reason}, while {what}")

    def wait(self, seconds: float) -> None:
        """Sleeps until a stop is requested. Not a ``threading.Event``: a signal handler cannot safely set one."""
        deadline = time.monotonic() + seconds
        while self.reason is None and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, 0.1))


def is_requested() -> bool:
    """Whether the whole process was asked to stop, by a signal or by the end of its launcher."""
    return any(request.reason is not None for request in _of_signals)


def interruptible(report: Progress, stop: StopRequest) -> Progress:
    """The same progress report, which raises the request's error once a stop is requested."""

    def report_or_stop(what: str, done: int, total: int) -> None:
        stop.raise_before_training()
        report(what, done, total)

    return report_or_stop


@contextmanager
def stop_on_signals(launcher: psutil.Process | None = None, name: str = "the process") -> Iterator[StopRequest]:
    """A request that is set by SIGINT, by SIGTERM and by the end of the ``launcher`` while the block runs.

    A second Ctrl-C raises KeyboardInterrupt at once. Outside the main thread only the launcher is watched, because
    Python allows signal handlers only there.

    Args:
        launcher: the process that started this one, if this one is to stop when it ends.
        name: the launcher's name in the reason of the request.
    """
    request = StopRequest()
    _of_signals.append(request)

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
        _of_signals.remove(request)
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def time_limit(request: StopRequest, seconds: float | None) -> Iterator[None]:
    """Sets a request after some seconds, while the block runs; None for no limit."""
    if seconds is None:
        yield
        return
    timer = threading.Timer(seconds, request.set, [f"the time limit is reached ({timedelta(seconds=seconds)})"])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _watch(name: str, launcher: psutil.Process, request: StopRequest, finished: threading.Event) -> None:
    while not finished.wait(POLL_SECONDS):
        if not _is_alive(launcher):
            request.set(f"{name} that started it (process {launcher.pid}) was killed")
            return


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:  # it ended between the two calls
        return False
