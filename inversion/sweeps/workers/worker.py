"""A worker: claims runs of a study and does them, until none is left or it is stopped."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from optuna.exceptions import UpdateFinishedTrialError

from inversion.config.resolve import Fallback
from inversion.config.run_config import parse_config
from inversion.errors import AbandonedRunError, InterruptedRunError, InversionError, PrunedRunError, RequestError
from inversion.progress import no_progress
from inversion.runs.prepare import Prepared, prepare
from inversion.runs.train import remove_checkpoints, train_steps
from inversion.sweeps.queue.entry import Entry
from inversion.sweeps.queue.lease import LOST, Lease
from inversion.sweeps.queue.queue import Queue, Queued
from inversion.sweeps.queue.storage import RETRY_SECONDS, QueueLostError, open_storage, patiently
from inversion.sweeps.study.reconcile import warn_of_unknown_owner
from inversion.sweeps.study.study import GRID_VALUE, Study, open_study, require_same_store
from inversion.sweeps.workers.cotraining import share_a_pass
from inversion.sweeps.workers.local import WorkerSpec
from inversion.tracking.address import is_server
from inversion.tracking.connection import Connection, connect, require_answer
from inversion.tracking.lifecycle import ExperimentDeletedError, describe_failure
from inversion.tracking.ownership import HOST, PID, owner_is_alive, owner_tags, same_owner
from inversion.tracking.retry import with_retries
from inversion.tracking.store_errors import (
    NoTrackingError,
    TrackingLostError,
    TrackingRefusedError,
    is_lost,
    is_refused,
    reason,
)
from inversion.tracking.study import runs_of
from inversion.training.callbacks import Callback
from inversion.training.cotraining import CoTrainingGroup, Steps, train_together
from inversion.training.stop import StopRequest, interruptible

if TYPE_CHECKING:
    from mlflow.entities import Run

IDLE_SECONDS = 2.0
LOSSES_IN_A_ROW = 5
FAILURES_OF_A_MACHINE = 3
"""A worker stops after this many consecutive runs that could not be started: its machine is the likely cause."""

SHOWN = ("test/psnr", "test/ssim", "test/lpips", "best/val_psnr", "best/val_loss", "train_seconds")
"""Metrics that are copied to the trial, for the live table and optuna-dashboard."""

_logger = logging.getLogger(__name__)


def work(spec: WorkerSpec, stop: StopRequest) -> None:
    """Runs a worker, in a process of this machine or in a task on a Ray cluster.

    Raises:
        RequestError: the study does not exist, or logs to another tracking store; or the worker was assigned a GPU for
            runs that may use it, and CUDA finds none.
        InversionError: this machine cannot do the study's runs, or lost the tracking store or the queue.
    """
    study = open_study(open_storage(spec.storage, stop=stop), spec.study, stop)
    if spec.gpu and study.may_use_a_gpu:
        _require_gpu()
    require_same_store(study.queue.study, spec.tracking_uri)
    connection = with_retries(connect(spec.tracking_uri, spec.experiment), stop)
    Worker(study, connection, stop, spec.side_by_side).work()


def _require_gpu() -> None:
    """Raises a RequestError if CUDA finds no GPU: ``device=auto`` would silently be the CPU."""
    import torch

    if not torch.cuda.is_available():
        assigned = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        raise RequestError(f"this worker was assigned the GPU {assigned!r} (CUDA_VISIBLE_DEVICES), but CUDA finds no "
                           "such device")


class Worker(Callback):
    """Works on a study with one run at a time, or ``side_by_side`` on one encoder pass where there are such."""

    def __init__(self, study: Study, connection: Connection, stop: StopRequest, side_by_side: int = 1) -> None:
        self.study = study
        self.queue: Queue = study.queue
        self.connection = connection
        self.stop = stop
        self.side_by_side = side_by_side
        self.not_begun = 0
        self.lost = 0

    def work(self) -> None:
        """Works until every run of the study is done, by this or other workers, or until it is asked to stop.

        Raises:
            InversionError: this machine cannot do the study's runs, or lost the tracking store or the queue.
        """
        while self.stop.reason is None:
            patiently(partial(self.queue.recover_stale_trials, throttle=True), "looking for dead workers", self.stop)
            entry = patiently(self.queue.claim, "claiming a run", self.stop)
            if entry is not None:
                self._do_all([entry, *self._companions(entry)])
            elif not any(entry.is_open for entry in patiently(self.queue.entries, "looking for work", self.stop)):
                return
            else:  # other workers have the last ones: if they die, their runs come back
                self.stop.wait(IDLE_SECONDS)

    def on_begin(self, run_id: str) -> None:
        self.not_begun = 0

    def _companions(self, entry: Entry) -> list[Entry]:
        """Other waiting runs that this one can train side by side with: claimed too."""
        if self.side_by_side == 1 or self.study.search is not None or self._may_kill(entry):
            return []

        def wanted(other: Entry) -> bool:
            return share_a_pass(entry, other) and not self._may_kill(other)

        most = self.side_by_side - 1
        return patiently(lambda: self.queue.claim_others(most, wanted), "claiming runs that go with it", self.stop)

    def _may_kill(self, entry: Entry) -> bool:
        """Whether a worker died at the run since its last epoch: it trains alone, and takes no other with it."""
        return patiently(lambda: self.queue.has_died(entry), "asking how a run ended before", self.stop)

    def _do_all(self, entries: Sequence[Entry]) -> None:
        """Claimed runs, each with an end of its own; what ends the worker is raised when all are done."""
        with contextlib.ExitStack() as stack:  # they give signs of life also while they wait for their turn
            leases = [stack.enter_context(self._lease(entry)) for entry in entries]
            futures = train_together([partial(self._do, entry, lease)
                                      for entry, lease in zip(entries, leases, strict=True)])
        for future in futures:
            future.result()

    def _lease(self, entry: Entry) -> Lease:
        return Lease(self.queue, entry.trial._trial_id, self.study.metric, StopRequest(self.stop),
                     prunes=self.study.search is not None)

    def _do(self, entry: Entry, lease: Lease, group: CoTrainingGroup) -> Steps[None]:
        """One claimed run, from its parameters to what the queue says of it afterwards; yields before every step."""
        trial_id = lease.trial_id
        try:
            with self._settled(trial_id):
                self.stop.raise_before_training()  # one that was claimed with this one may have ended the worker
                prepared = self._prepare(entry)
                run = self._run_of(trial_id, prepared, lease.stop)
                if run is None or not self._has_result(run):
                    run = yield from self._train(prepared, run, lease, group)
                remove_checkpoints(prepared.plan.data_dir, run.info.run_id)
                self._complete(trial_id, run)
        except Exception as error:  # it ends the worker: those beside it save and give their runs back
            self.stop.set(str(error) or type(error).__name__)
            raise

    def _prepare(self, entry: Entry) -> Prepared:
        """The run's parameters, with this machine's folders and device."""
        self.not_begun += 1
        config, fallbacks, digest = self.study.configure(entry)
        prepared = prepare(parse_config(config), interruptible(no_progress, self.stop),
                           [Fallback(**fallback) for fallback in fallbacks])
        if digest is not None and prepared.digest != digest:
            raise RequestError("the images, the weights or the versions on this machine differ from those that the run "
                               f"was queued with (digest {prepared.digest}, queued {digest})")
        if digest is None:
            self.study.require_data(prepared.photos.digest)
            self.queue.describe(entry.trial._trial_id, Queued(prepared.plan.name, config, prepared.digest, fallbacks))
        return prepared

    def _run_of(self, trial_id: int, prepared: Prepared, stop: StopRequest) -> Run | None:
        """The existing MLflow run of this configuration: its result is used, or it is resumed.

        Waits while another process works on it: a search may suggest the same configuration twice.
        """
        digest = prepared.digest
        while True:
            holds = self.study.search is None or patiently(
                lambda: self.queue.hold(trial_id, digest), "reserving a configuration", stop)
            runs = runs_of(self.connection, self.study.name, digest)
            if runs and self._has_result(runs[0]):
                return runs[0]
            if holds and not self._is_any_taken(runs):
                return runs[0] if runs else None
            stop.wait(IDLE_SECONDS)
            stop.raise_before_training()

    def _is_any_taken(self, runs: list[Run]) -> bool:
        """Whether a process that is no worker of this queue works, or may work, on one of the runs.

        Its queue was lost, or somebody resumed the run by hand.
        """
        local = not is_server(self.connection.uri)
        for run in runs:
            tags = run.data.tags
            if run.info.status != "RUNNING" or PID not in tags or same_owner(tags, owner_tags()):
                continue
            alive = owner_is_alive(tags, local)
            if alive is False or patiently(partial(self.queue.knows, tags), "looking for a run", self.stop):
                continue
            if alive is None:
                warn_of_unknown_owner(run.info.run_id, tags[PID], tags.get(HOST, ""))
            return True
        return False

    def _has_result(self, run: Run) -> bool:
        """Whether a run is complete. A status can be set by hand; the ranking metric is logged only at the end."""
        metric = self.study.search.metric if self.study.search else GRID_VALUE
        last = metric if metric.startswith("best/") else "best_epoch"
        return run.info.status == "FINISHED" and last in run.data.metrics

    def _train(self, prepared: Prepared, run: Run | None, lease: Lease, group: CoTrainingGroup) -> Steps[Run]:
        resume = run.info.run_id if run else None
        parent = patiently(lambda: self.study.parent, "reading the study's parent run", self.stop)
        result = yield from train_steps(prepared, self.connection, [self, lease], lease.stop, resume, parent, group)
        return self.connection.client.get_run(result.run_id)

    def _complete(self, trial_id: int, run: Run) -> None:
        metrics = run.data.metrics
        scores = {name: metrics[name] for name in SHOWN if name in metrics}
        value = self._value(run)
        patiently(lambda: self.queue.complete(trial_id, value, run.info.run_id, scores), "storing a result", self.stop)

    def _value(self, run: Run) -> float:
        """The study's objective: a metric of every epoch is taken at the best epoch."""
        metric = self.study.search.metric if self.study.search else GRID_VALUE
        if metric.startswith("best/"):
            return float(run.data.metrics[metric])
        best = run.data.metrics["best_epoch"]
        history = self.connection.client.get_metric_history(run.info.run_id, metric)
        return next(point.value for point in history if point.step == best)

    @contextlib.contextmanager
    def _settled(self, trial_id: int) -> Iterator[None]:
        """Records in the queue how the run ended.

        Raises:
            InversionError: an error that ends the worker too.
        """
        try:
            yield
        except (AbandonedRunError, UpdateFinishedTrialError):
            _logger.warning("trial %d: %s", trial_id, LOST)
        except QueueLostError:
            raise
        except PrunedRunError as error:
            why = str(error)
            self._tell(lambda: self.queue.prune(trial_id, why))
        except (InterruptedRunError, KeyboardInterrupt) as error:
            why = str(error) or "interrupted"
            self._tell(lambda: self.queue.release(trial_id, why))
            self.stop.set(why)
        except ExperimentDeletedError as error:  # no run of the study can be done until it is restored
            why = str(error)
            self._tell(lambda: self.queue.release(trial_id, why))
            raise
        except Exception as error:
            if isinstance(error, TrackingLostError) or is_lost(error):
                why = str(error)
                self._tell(lambda: self.queue.release(trial_id, why))
                self._await_tracking(error)
            else:
                self._fail(trial_id, error)
        else:
            self.lost = self.not_begun = 0

    def _await_tracking(self, error: Exception) -> None:
        """Waits until the tracking store answers again; its runs are then resumed from their checkpoints.

        Raises:
            TrackingLostError: it does not, or was lost several times in a row.
            TrackingRefusedError: it answers, but refuses.
        """
        self.lost += 1
        deadline = time.monotonic() + RETRY_SECONDS
        while self.lost < LOSSES_IN_A_ROW and time.monotonic() < deadline and self.stop.reason is None:
            try:
                return require_answer(self.connection.uri)
            except NoTrackingError as still:
                if is_refused(still.__cause__):
                    raise TrackingRefusedError(str(still)) from still
                _logger.warning("%s", still)
                self.stop.wait(IDLE_SECONDS)
        if self.stop.reason is None:
            raise TrackingLostError(f"the tracking store is unreachable: {reason(error)}") from error

    def _fail(self, trial_id: int, error: Exception) -> None:
        """Records the failure; the worker continues with other runs."""
        _, kind, message = describe_failure(error)
        if not (isinstance(error, InversionError) or is_refused(error)):
            _logger.exception("trial %d failed", trial_id)
        self._tell(lambda: self.queue.fail(trial_id, kind, message))
        if self.not_begun >= FAILURES_OF_A_MACHINE:
            raise InversionError(f"{self.not_begun} runs in a row could not be started on this machine. The last "
                                 f"error: {message}") from error

    def _tell(self, call: Callable[[], None]) -> None:
        with contextlib.suppress(UpdateFinishedTrialError):  # taken over by another worker: nothing to record
            patiently(call, "storing how a run ended", self.stop)
