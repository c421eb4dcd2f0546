"""A worker's hold on the trial it has claimed: signs of life, and the certainty that the trial is still its own."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from optuna.exceptions import OptunaError, UpdateFinishedTrialError
from sqlalchemy.exc import SQLAlchemyError

from inversion.errors import AbandonedRunError, PrunedRunError
from inversion.sweeps.queue.queue import Queue
from inversion.sweeps.queue.storage import patiently
from inversion.training.callbacks import Callback, Picture
from inversion.training.stop import StopRequest

LOST = "another worker has taken this run over, because this one was silent for too long"

_logger = logging.getLogger(__name__)


class Lease(Callback):
    """Holds a claimed trial while the block runs, and hears of the training before the tracking store does.

    Optuna's own heartbeat thread dies at its first database error, and its trial is then taken for dead. This one
    goes on, and stops the run when the trial is lost. A process that was paused (a suspended machine, SIGSTOP) asks
    before it writes anything: what it has lost it must not touch.
    """

    def __init__(self, queue: Queue, trial_id: int, metric: str, stop: StopRequest, prunes: bool = False) -> None:
        self.queue = queue
        self.trial_id = trial_id
        self.metric = metric
        self.stop = stop
        self.prunes = prunes
        self._confirmed_at = time.time()  # a monotonic clock stands still while a machine is suspended
        self._finished = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"heartbeat of trial {trial_id}", daemon=True)

    def __enter__(self) -> Lease:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._finished.set()
        self._thread.join()

    def on_begin(self, run_id: str) -> None:
        self._confirm()
        self._write(lambda: self.queue.remember_run(self.trial_id, run_id), "storing the run's id")

    def on_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        self._write(lambda: self.queue.report(self.trial_id, epoch, metrics[self.metric]), "reporting an epoch")

    def on_next_epoch(self, epoch: int) -> None:
        """Asks the pruner: not after the last epoch, when there is nothing to save any more."""
        if self.prunes and patiently(lambda: self.queue.should_prune(self.trial_id), "asking the pruner", self.stop):
            raise PrunedRunError(f"pruned after epoch {epoch - 1}: not promising beside the other trials")

    def on_pictures(self, epoch: int, pictures: Sequence[Picture]) -> None:
        self._confirm_after_silence()

    def on_checkpoint(self, files: Sequence[Path], final: bool) -> None:
        self._confirm_after_silence()

    def on_commit(self) -> None:
        self._confirm()

    def _confirm_after_silence(self) -> None:
        if time.time() - self._confirmed_at > 2 * self.queue.heartbeat_seconds:
            self._confirm()

    def _confirm(self) -> None:
        """Makes sure that the trial is this worker's.

        Raises:
            AbandonedRunError: it is not.
        """
        if not patiently(self._is_mine, "asking whose the run is", self.stop):
            raise AbandonedRunError(LOST)

    def _is_mine(self) -> bool:
        asked_at = time.time()  # the process may be paused before it hears the answer
        mine = self.queue.is_mine(self.trial_id)
        if mine:
            self._confirmed_at = asked_at
        return mine

    def _write(self, call: Callable[[], None], what: str) -> None:
        asked_at = time.time()
        try:
            patiently(call, what, self.stop)
        except UpdateFinishedTrialError as error:
            raise AbandonedRunError(LOST) from error
        self._confirmed_at = asked_at

    def _beat(self) -> None:
        while not self._finished.wait(self.queue.heartbeat_seconds):
            try:
                if not self._is_mine():
                    self.stop.set(LOST, AbandonedRunError)
                    return
                self.queue.beat(self.trial_id)
            except (SQLAlchemyError, OptunaError) as error:  # the database is away: what is lost will show later
                _logger.warning("no heartbeat for trial %d: %s", self.trial_id, error)
