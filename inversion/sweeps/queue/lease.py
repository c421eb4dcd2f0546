"""A worker's lease on a claimed trial: sends heartbeats, and checks that the trial is still this worker's."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from optuna.exceptions import OptunaError, UpdateFinishedTrialError
from optuna.pruners import BasePruner
from sqlalchemy.exc import SQLAlchemyError

from inversion.errors import AbandonedRunError, PrunedRunError, StoppedRunError
from inversion.sweeps.queue.queue import Queue
from inversion.sweeps.queue.storage import patiently
from inversion.training.callbacks import Callback, Picture
from inversion.training.stop import StopRequest

ASKED = "a stop was asked for with --stop"
LOST = "another worker has taken this run over, because this one sent no heartbeat for too long"

_logger = logging.getLogger(__name__)


class Lease(Callback):
    """Sends heartbeats for a claimed trial while the block runs, and reports the training to the queue.

    Optuna's own heartbeat thread ends at its first database error. This one continues, and stops the run if the trial
    was taken over. A process that was paused (a suspended machine, SIGSTOP) checks its lease before it writes anything,
    so that it never changes a run that another worker has taken over.

    Args:
        queue: The queue that the trial was claimed from.
        trial_id: The claimed trial.
        metric: The metric that is reported after every epoch.
        stop: Set when the lease is lost, or the run was asked to stop.
        pruner: The study's pruner, if one may stop the run after an epoch.
        clock: Seconds since the epoch. A monotonic clock would stand still while a machine is suspended.
    """

    def __init__(self, queue: Queue, trial_id: int, metric: str, stop: StopRequest,
                 pruner: BasePruner | None = None, clock: Callable[[], float] = time.time) -> None:
        self.queue = queue
        self.trial_id = trial_id
        self.metric = metric
        self.stop = stop
        self.pruner = pruner
        self.clock = clock
        self._confirmed_at = clock()
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
        self._write(lambda: self.queue.remember_run(self.trial_id, run_id), "storing the run id")

    def on_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        self._write(lambda: self.queue.report(self.trial_id, epoch, metrics[self.metric]), "reporting an epoch")

    def on_next_epoch(self, epoch: int) -> None:
        """Asks the pruner, except after the last epoch, when pruning would save nothing."""
        pruner = self.pruner
        if pruner is None:
            return
        try:
            stops = patiently(lambda: self.queue.should_prune(self.trial_id, pruner), "asking the pruner", self.stop)
        except UpdateFinishedTrialError as error:
            raise AbandonedRunError(LOST) from error
        if stops:
            raise PrunedRunError(f"pruned after epoch {epoch - 1}: not promising compared to the others")

    def on_pictures(self, epoch: int, pictures: Sequence[Picture]) -> None:
        self._confirm_if_paused()

    def on_checkpoint(self, files: Sequence[Path], final: bool) -> None:
        self._confirm_if_paused()

    def on_commit(self) -> None:
        self._confirm()

    def _confirm_if_paused(self) -> None:
        if self.clock() - self._confirmed_at > 2 * self.queue.heartbeat_seconds:
            self._confirm()

    def _confirm(self) -> None:
        """Checks that the trial is still this worker's.

        Raises:
            AbandonedRunError: it was taken over.
        """
        if not patiently(self._is_mine, "checking the lease", self.stop):
            raise AbandonedRunError(LOST)

    def _is_mine(self) -> bool:
        asked_at = self.clock()  # before the query: the process may be paused during it
        mine = self.queue.is_mine(self.trial_id)
        if mine:
            self._confirmed_at = asked_at
        return mine

    def _write(self, call: Callable[[], None], what: str) -> None:
        asked_at = self.clock()
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
                if self.queue.is_to_stop(self.trial_id):
                    self.stop.set(ASKED, StoppedRunError)
            except (SQLAlchemyError, OptunaError) as error:  # a later check shows whether the trial is lost
                _logger.warning("no heartbeat for trial %d: %s", self.trial_id, error)
