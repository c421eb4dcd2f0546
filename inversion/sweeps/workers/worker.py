"""A worker: claims runs of a study and trains them, until none is left or a stop is requested."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from optuna.exceptions import UpdateFinishedTrialError
from optuna.pruners import BasePruner

from inversion.config.parts import parts_in
from inversion.config.resolve import Fallback
from inversion.config.run_config import parse_config
from inversion.errors import (
    AbandonedRunError,
    InterruptedRunError,
    InversionError,
    PrunedRunError,
    RequestError,
    StoppedRunError,
    TimeLimitError,
)
from inversion.models.part_files import allow
from inversion.progress import no_progress
from inversion.runs.prepare import Prepared, prepare
from inversion.runs.train import remove_checkpoints, train_steps
from inversion.sweeps.queue.allowance import Allowance
from inversion.sweeps.queue.entry import CONFIG, Entry
from inversion.sweeps.queue.lease import LOST, Lease
from inversion.sweeps.queue.queue import Queue, Queued
from inversion.sweeps.queue.storage import RETRY_SECONDS, QueueLostError, open_storage, patiently
from inversion.sweeps.study.reconcile import warn_of_unknown_owner
from inversion.sweeps.study.study import Study, open_study, require_same_store
from inversion.sweeps.workers.local import WorkerSpec
from inversion.sweeps.workers.outcome import is_complete, scores_of, value_of
from inversion.sweeps.workers.run_log import RunLog
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

SAME_FEATURES = ("encoder", "data", "data_dir", "weights", "lpips_weights", "protocol", "image_size", "batch_size",
                 "crops", "train_limit", "val_limit", "test_limit", "seed", "device", "precision", "threads")
"""Parameters that determine the batches of a run, the features of its encoders, and how these are computed."""

_logger = logging.getLogger(__name__)


def work(spec: WorkerSpec, stop: StopRequest) -> None:
    """Runs a worker, in a process on this machine or in a task on a Ray cluster.

    Raises:
        RequestError: the study does not exist, or logs to another tracking store; or the worker was assigned a GPU for
            runs that may use it, and CUDA finds none.
        InversionError: this machine cannot train the study's runs, or the tracking store or the queue was lost.
    """
    study = open_study(open_storage(spec.storage, stop=stop), spec.study, stop)
    if spec.gpu and study.may_use_a_gpu:
        _require_gpu()
    require_same_store(study.queue.study, spec.tracking_uri)
    for file in study.code.values():
        if file.sha256 in spec.trusted:
            allow(file)
    if spec.max_runs:
        study.queue.allowance = Allowance(spec.command, spec.max_runs)
    connection = with_retries(connect(spec.tracking_uri, spec.experiment), stop)
    Worker(study, connection, stop, spec.side_by_side, spec.system_metrics).work()


def _require_gpu() -> None:
    """Raises a RequestError if CUDA finds no GPU: ``device=auto`` would silently be the CPU."""
    import torch

    if not torch.cuda.is_available():
        assigned = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        raise RequestError(f"this worker was assigned the GPU {assigned!r} (CUDA_VISIBLE_DEVICES), but CUDA finds no "
                           "such device")


def can_train_together(one: Entry, other: Entry) -> bool:
    """Whether two queued runs see the same batches through the same encoders. False for trials of a search, whose
    parameters are unknown before they start.
    """
    first, second = (entry.trial.user_attrs.get(CONFIG) for entry in (one, other))
    return first is not None and second is not None and all(
        name in first and name in second and first[name] == second[name] for name in SAME_FEATURES)


class Worker(Callback):
    """Trains the runs of a study, one at a time or several together.

    Args:
        study: the study.
        connection: the tracking store and the study's experiment.
        stop: ends the worker after its runs have saved a checkpoint and are released.
        side_by_side: how many runs may train together on one encoder pass.
        system_metrics: whether runs log MLflow's system metrics.
    """

    def __init__(self, study: Study, connection: Connection, stop: StopRequest, side_by_side: int = 1,
                 system_metrics: bool = False) -> None:
        self.study = study
        self.queue: Queue = study.queue
        self.connection = connection
        self.stop = stop
        self.side_by_side = side_by_side
        self.system_metrics = system_metrics
        self.not_begun = 0
        self.lost = 0

    def work(self) -> None:
        """Works until every run of the study is done, by this or other workers, or as many as are allowed, or until a
        stop is requested.

        Raises:
            InversionError: this machine cannot train the study's runs, or the tracking store or the queue was lost.
        """
        while self.stop.reason is None:
            patiently(partial(self.queue.recover_stale_trials, throttle=True), "looking for dead workers", self.stop)
            entry = patiently(self.queue.claim, "claiming a run", self.stop)
            if entry is not None:
                self._train_all([entry, *self._claim_companions(entry)])
                continue
            entries = patiently(self.queue.entries, "looking for work", self.stop)
            if self.queue.is_used_up(entries) or not any(entry.is_open for entry in entries):
                return
            self.stop.wait(IDLE_SECONDS)  # others have the last runs, which are queued again if their worker dies

    def on_begin(self, run_id: str) -> None:
        self.not_begun = 0

    def _claim_companions(self, entry: Entry) -> list[Entry]:
        """Claims other waiting runs that can train together with this one."""
        if self.side_by_side == 1 or self.study.search is not None or self._has_killed(entry):
            return []

        def wanted(other: Entry) -> bool:
            return (other.priority == entry.priority and can_train_together(entry, other)
                    and not self._has_killed(other))

        most = self.side_by_side - 1
        return patiently(lambda: self.queue.claim_others(most, wanted), "claiming runs to train together", self.stop)

    def _has_killed(self, entry: Entry) -> bool:
        """Whether a worker died at the run since its last epoch: it then trains alone, in case it is the cause."""
        return patiently(lambda: self.queue.has_died(entry), "reading how a run ended before", self.stop)

    def _train_all(self, entries: Sequence[Entry]) -> None:
        """Trains claimed runs together, each with its own outcome; errors that end the worker are raised at the end."""
        run_time = patiently(lambda: self.study.run_time, "reading the study's limits", self.stop)
        pruners = patiently(lambda: [self.study.pruner_for(entry) for entry in entries], "reading the study's pruner",
                            self.stop)
        with contextlib.ExitStack() as stack:  # heartbeats of all runs, also of those that wait for their turn
            leases = [stack.enter_context(self._lease(entry, run_time, pruner))
                      for entry, pruner in zip(entries, pruners, strict=True)]
            futures = train_together([partial(self._do, entry, lease)
                                      for entry, lease in zip(entries, leases, strict=True)])
        for future in futures:
            future.result()

    def _lease(self, entry: Entry, run_time: float | None, pruner: BasePruner | None) -> Lease:
        return Lease(self.queue, entry.trial._trial_id, self.study.metric, StopRequest(self.stop, run_time), pruner)

    def _do(self, entry: Entry, lease: Lease, group: CoTrainingGroup) -> Steps[None]:
        """Does one claimed run: prepares it, trains it unless it has a result, records the outcome in the queue.

        Yields before every training step.
        """
        trial_id = lease.trial_id
        try:
            with self._recorded(lease):
                self.stop.raise_before_training()  # a run that was claimed with this one may have ended the worker
                with RunLog(self.connection, self.study.name, trial_id, entry.name) as log:
                    prepared = self._prepare(entry)
                    run = self._find_run(trial_id, prepared, lease.stop)
                    if run is None or not is_complete(run, self.study.objective):
                        run = yield from self._train(prepared, run, [self, lease, log], lease.stop, group)
                remove_checkpoints(prepared.plan.data_dir, run.info.run_id)
                self._complete(trial_id, run)
        except Exception as error:  # it ends the worker: the other runs save a checkpoint and are released
            self.stop.set(str(error) or type(error).__name__)
            raise

    def _prepare(self, entry: Entry) -> Prepared:
        """Resolves the run's parameters with this machine's folders and device, and reads its images.

        Raises:
            RequestError: the inputs on this machine are missing, or differ from those that the run was queued with.
        """
        self.not_begun += 1
        config, fallbacks, digest = self.study.configure(entry)
        self.study.accept_code(parts_in(config))
        prepared = prepare(parse_config(config), interruptible(no_progress, self.stop),
                           [Fallback(**fallback) for fallback in fallbacks])
        if digest is not None and prepared.digest != digest:
            raise RequestError("the images, the weights or the versions on this machine differ from those that the run "
                               f"was queued with (digest {prepared.digest}, queued {digest})")
        if digest is None:
            self.study.require_data(prepared.photos.digest)
            self.queue.describe(entry.trial._trial_id, Queued(prepared.plan.name, config, prepared.digest, fallbacks))
        return prepared

    def _find_run(self, trial_id: int, prepared: Prepared, stop: StopRequest) -> Run | None:
        """The existing MLflow run of this configuration, to take its result or to resume it; None if there is none.

        Waits while another process works on it: a search may suggest the same configuration twice.
        """
        digest = prepared.digest
        while True:
            holds = self.study.search is None or patiently(
                lambda: self.queue.hold(trial_id, digest), "reserving a configuration", stop)
            runs = runs_of(self.connection, self.study.name, digest)
            if runs and is_complete(runs[0], self.study.objective):
                return runs[0]
            if holds and not self._is_any_in_use(runs):
                return runs[0] if runs else None
            stop.wait(IDLE_SECONDS)
            stop.raise_before_training()

    def _is_any_in_use(self, runs: list[Run]) -> bool:
        """Whether a process that is no worker of this queue works, or may work, on one of the runs.

        That is a worker of a queue that was lost, or ``inversion train --resume``.
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

    def _train(self, prepared: Prepared, run: Run | None, callbacks: Sequence[Callback], stop: StopRequest,
               group: CoTrainingGroup) -> Steps[Run]:
        resume = run.info.run_id if run else None
        parent = patiently(lambda: self.study.parent, "reading the study's parent run", self.stop)
        result = yield from train_steps(prepared, self.connection, callbacks, stop, resume, parent, group,
                                        self.system_metrics)
        return self.connection.client.get_run(result.run_id)

    def _complete(self, trial_id: int, run: Run) -> None:
        value, scores = value_of(self.connection, run, self.study.objective), scores_of(run)
        patiently(lambda: self.queue.complete(trial_id, value, run.info.run_id, scores), "storing a result", self.stop)

    @contextlib.contextmanager
    def _recorded(self, lease: Lease) -> Iterator[None]:
        """Records in the queue how the run ended: failed, pruned, timed out or interrupted.

        Raises:
            Exception: an error that ends the worker too.
        """
        trial_id = lease.trial_id
        try:
            yield
        except (AbandonedRunError, UpdateFinishedTrialError):
            _logger.warning("trial %d: %s", trial_id, LOST)
        except QueueLostError:
            raise
        except PrunedRunError as error:
            why = str(error)
            self._record(lambda: self.queue.prune(trial_id, why))
        except TimeLimitError as error:
            limit, why = lease.stop.run_time or 0.0, str(error)
            self._record(lambda: self.queue.time_out(trial_id, limit, why))
        except StoppedRunError as error:
            kind, why = error.kind, str(error)
            self._record(lambda: self.queue.fail(trial_id, kind, why))
        except (InterruptedRunError, KeyboardInterrupt) as error:
            why = str(error) or "interrupted"
            self._record(lambda: self.queue.release(trial_id, why))
            self.stop.set(why)
        except ExperimentDeletedError as error:  # no run of the study can train until it is restored
            why = str(error)
            self._record(lambda: self.queue.release(trial_id, why))
            raise
        except Exception as error:
            if isinstance(error, TrackingLostError) or is_lost(error):
                why = str(error)
                self._record(lambda: self.queue.release(trial_id, why))
                self._await_tracking(error)
            else:
                self._fail(trial_id, error)
        else:
            self.lost = self.not_begun = 0

    def _await_tracking(self, error: Exception) -> None:
        """Waits until the tracking store answers again; the runs are then resumed from their checkpoints.

        Raises:
            TrackingLostError: it does not answer for ``RETRY_SECONDS``, or was lost several times in a row.
            TrackingRefusedError: it answers, but rejects the request.
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
        self._record(lambda: self.queue.fail(trial_id, kind, message))
        if self.not_begun >= FAILURES_OF_A_MACHINE:
            raise InversionError(f"{self.not_begun} runs in a row could not be started on this machine. The last "
                                 f"error: {message}") from error

    def _record(self, call: Callable[[], None]) -> None:
        """Writes to the queue how a run ended, unless another worker has taken it over."""
        with contextlib.suppress(UpdateFinishedTrialError):
            patiently(call, "storing how a run ended", self.stop)
