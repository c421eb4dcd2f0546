"""The driver of a study: starts workers, restarts those that die, shows progress, and sums the study up."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from inversion.console import Console
from inversion.models.part_files import is_known
from inversion.report import leaderboard, search_leaderboard
from inversion.sweeps.queue.allowance import Allowance
from inversion.sweeps.queue.entry import Snapshot
from inversion.sweeps.queue.queue import Queue
from inversion.sweeps.queue.storage import open_storage, patiently
from inversion.sweeps.queue.tuning import Tuning
from inversion.sweeps.study.parent import ensure_parent, log_runs
from inversion.sweeps.study.reconcile import end_parent, reconcile, reconcile_members
from inversion.sweeps.study.study import Study, open_study
from inversion.sweeps.study.summary import describe_if_changed, describe_study
from inversion.sweeps.study.trials import search_in
from inversion.sweeps.workers.live import View, measures_of
from inversion.sweeps.workers.local import WorkerSpec
from inversion.sweeps.workers.notice import Notice, Progress
from inversion.text import first_of
from inversion.tracking.address import absolute
from inversion.tracking.connection import Connection, require_answer
from inversion.tracking.ownership import take_over
from inversion.tracking.store_errors import NoTrackingError, is_lost, is_refused, reason
from inversion.tracking.study import DIGEST, children
from inversion.training.stop import StopRequest

MOST_NAMED = 20
READ_SECONDS, MAX_READ_SECONDS = 1.0, 10.0
"""Shortest and longest time between two readings of the queue."""

SHARE_OF_READING = 0.2
"""The largest share of time spent reading the queue: 2,000 runs take half a second."""

_logger = logging.getLogger(__name__)


class WorkerPool(Protocol):
    """A group of workers: processes of this machine, or tasks on a Ray cluster."""

    @property
    def per_machine(self) -> int:
        """How many workers share the cores of a machine."""

    def start(self, spec: WorkerSpec) -> None:
        """Starts every worker."""

    def restart_dead(self, count_done: Callable[[], int]) -> list[str]:
        """Restarts workers that died; returns a message for each. ``count_done`` counts the runs that are done."""

    def count_alive(self) -> int:
        """How many workers are alive."""

    def errors(self) -> list[str]:
        """The last messages of workers that exited early."""

    def stop(self) -> None:
        """Lets the workers save their checkpoints and requeue their runs."""


class Driver:
    """Keeps a pool of workers running on a study until every run is done, by these workers or by others.

    Args:
        study: the study.
        connection: the tracking store and the study's experiment.
        pool: the workers, not started yet.
        console: where progress is shown.
        start: the command that starts a worker, which is shown if there is none.
        side_by_side: how many runs each worker may train together on one encoder pass.
        system_metrics: whether workers log MLflow's system metrics.
        notice: is told if the sweep is stuck.
        allowance: how many runs the workers may do together; None for no limit.
    """

    def __init__(self, study: Study, connection: Connection, pool: WorkerPool, console: Console, start: str,
                 side_by_side: int = 1, system_metrics: bool = False, notice: Notice | None = None,
                 allowance: Allowance | None = None) -> None:
        self.study = study
        self.connection = connection
        self.pool = pool
        self.console = console
        self.start = start
        self.side_by_side = side_by_side
        self.system_metrics = system_metrics
        self.notice = notice or Notice(None, study.name)
        self.progress = Progress(lambda snapshot, why: self.notice.stuck(study, connection, snapshot, why))
        self.allowance = allowance
        looking = open_study(open_storage(study.queue.storage.url, reading=True), study.name)
        self.reading = looking.queue
        self.reconciled_at = -math.inf

    def drive(self, stop: StopRequest) -> Snapshot:
        """Keeps workers running until the study is done, they have done as many runs as they may, all of them have
        exited, or a stop is requested.

        Args:
            stop: ends the sweep: the workers save their checkpoints and release their runs.

        Returns:
            The last snapshot of the study.

        Raises:
            InversionError: a worker cannot be started.
            QueueLostError: the queue's database does not answer.
            QueueRefusedError: the queue's database rejects a request.
            InterruptedRunError: a stop was requested while the queue's database does not answer.
            ExperimentDeletedError: the study's experiment was deleted in MLflow.
        """
        study = self.study
        try:
            self.pool.start(self._spec())
            with View(self.console, f"study {study.name}", measures_of(study), self.start) as view:
                while True:
                    began = time.monotonic()
                    snapshot = read_snapshot(self.reading, stop)
                    pause = max(READ_SECONDS, (time.monotonic() - began) / SHARE_OF_READING)
                    view.update(snapshot, self.pool.count_alive())
                    self.progress.look(snapshot)
                    if snapshot.is_done or stop.reason is not None:
                        break
                    if self.allowance and self.allowance.is_used_up(snapshot.entries):
                        break
                    self._restart_dead(stop)
                    if self.pool.count_alive() == 0:
                        break
                    self._reconcile(stop)
                    stop.wait(min(pause, MAX_READ_SECONDS))
        finally:
            if stop.reason is not None:
                self.console.print(f"{stop.reason}: workers are saving their checkpoints", soft_wrap=True)
            self.pool.stop()
        return read_snapshot(self.reading, stop)

    def _spec(self) -> WorkerSpec:
        study, allowance = self.study, self.allowance or Allowance("", 0)
        trusted = tuple(file.sha256 for file in study.code.values() if is_known(file))
        return WorkerSpec(study.name, study.queue.storage.url, absolute(self.connection.uri), study.experiment,
                          side_by_side=self.side_by_side, system_metrics=self.system_metrics, trusted=trusted,
                          command=allowance.command, max_runs=allowance.most)

    def _restart_dead(self, stop: StopRequest) -> None:
        """Restarts dead workers; their runs are recovered at once, so that others can resume them."""
        for death in self.pool.restart_dead(lambda: self._count_done(stop)):
            self.console.print(death, soft_wrap=True)
            self.progress.died(death)
            self.reconciled_at = -math.inf

    def _count_done(self, stop: StopRequest) -> int:
        """Number of runs that are done, after failing those whose workers died too often."""
        patiently(lambda: self.study.queue.recover_stale_trials(), "looking for dead workers", stop)
        return read_snapshot(self.reading, stop).done

    def _reconcile(self, stop: StopRequest) -> None:
        """Recovers and reconciles what dead workers of any machine left, at most once per heartbeat interval."""
        if time.monotonic() - self.reconciled_at < self.study.queue.heartbeat_seconds:
            return
        patiently(lambda: self.study.queue.recover_stale_trials(), "looking for dead workers", stop)
        try:
            require_answer(self.connection.uri)  # MLflow itself would retry for minutes
            if ensure_parent(self.study, self.connection):
                reconcile_members(self.study, self.connection)
            reconcile(self.study.queue, self.connection, self.study.name)
            describe_if_changed(self.study, self.connection, read_snapshot(self.reading, stop))
            parent = self.connection.client.get_run(self.study.parent.run_id)
            if parent.info.status != "RUNNING":  # another driver was stopped, or is dead
                take_over(self.connection.client, parent.info.run_id)
        except Exception as error:
            # rejections too: a run may be deleted while it is being read, and is not read next time
            if not (isinstance(error, NoTrackingError) or is_lost(error) or is_refused(error)):
                raise
            _logger.warning("the tracking store could not be reconciled with the queue: %s", reason(error))
        self.reconciled_at = time.monotonic()


def read_snapshot(queue: Queue, stop: StopRequest | None = None) -> Snapshot:
    """The current state of a study's runs.

    Raises:
        QueueLostError, QueueRefusedError, InterruptedRunError: as ``patiently``.
    """
    def read() -> Snapshot:
        entries = queue.entries()
        tuning = queue.tuning(entries)
        shares = {entry.root: tuning.share(entry) for entry in entries} if tuning.runs else {}
        return Snapshot(entries, datetime.now(), shares)

    return patiently(read, "reading the queue", stop)


def sum_up(study: Study, connection: Connection, console: Console, stop: StopRequest | None = None,
           end: Callable[[Connection, str, Snapshot], None] = end_parent) -> Snapshot:
    """Reconciles MLflow, logs the runs and the leaderboard, ends the parent run; returns the last snapshot.

    ``end`` gives the parent run its status.

    Raises:
        ExperimentDeletedError: the experiment was deleted in MLflow.
    """
    patiently(lambda: study.queue.recover_stale_trials(), "looking for dead workers", stop)
    snapshot = read_snapshot(study.queue, stop)
    try:
        ensure_parent(study, connection)
        reconcile(study.queue, connection, study.name)
        snapshot = read_snapshot(study.queue, stop).without(reconcile_members(study, connection))
        describe_study(study, connection, snapshot)
        tuning = study.queue.tuning(snapshot.entries)
        log_runs(connection, study.parent.run_id, snapshot.entries, tuning)
        if text := _leaderboard(study, connection, snapshot, tuning, console):
            connection.client.log_text(study.parent.run_id, text, "leaderboard.csv")
    finally:  # the queue has the reasons of failed runs, also if the tracking store rejects the requests
        show_failures(snapshot, console)
        show_stopped(snapshot, console)
        show_timed_out(snapshot, console)
        show_pruned(snapshot, console)
        show_deleted(snapshot, console)
    end(connection, study.parent.run_id, snapshot)
    return snapshot


def _leaderboard(study: Study, connection: Connection, snapshot: Snapshot, tuning: Tuning, console: Console) -> str:
    """The leaderboard as comma-separated values, empty without a finished run; of a study that is done it is shown."""
    if study.search is not None:  # ranked by its objective: test scores must not choose
        search = search_in(study.search, snapshot.entries)
        if search.best and snapshot.is_done:
            search_leaderboard.show(search, console)
        return search_leaderboard.as_csv(search) if search.best else ""
    finished = children(connection, study.name, "attributes.status = 'FINISHED'")
    rows = leaderboard.leaderboard(run for run in finished if tuning.ranks(run.data.tags.get(DIGEST)))
    if rows and snapshot.is_done:
        leaderboard.show(rows, console)
    return leaderboard.as_csv(rows) if rows else ""


def show_deleted(snapshot: Snapshot, console: Console) -> None:
    """Prints which finished runs were deleted in MLflow, and the remedies."""
    deleted = snapshot.having("deleted")
    if not deleted:
        return
    names = first_of([snapshot.label(entry) for entry in deleted], MOST_NAMED)
    were = "run was" if len(deleted) == 1 else "runs were"
    console.print(f"{len(deleted)} finished {were} deleted in MLflow: {names}. inversion-sweep with a spec that asks "
                  "for them runs them again; `mlflow runs restore` brings back what `mlflow gc` has not removed.",
                  soft_wrap=True)


def show_stopped(snapshot: Snapshot, console: Console) -> None:
    """Prints which runs were stopped, and how to go on with them."""
    if stopped := snapshot.having("stopped"):
        names = first_of([f"{entry.root} {snapshot.label(entry)}" for entry in stopped], MOST_NAMED)
        console.print(f"{len(stopped)} run{'s were' if len(stopped) > 1 else ' was'} stopped: {names}. --resume RUN "
                      "continues a run, --rerun RUN starts it from the beginning.", soft_wrap=True)


def show_timed_out(snapshot: Snapshot, console: Console) -> None:
    """Prints which runs have reached their limit, and how to go on with them."""
    if ended := snapshot.having("timed out"):
        names = first_of([f"{entry.root} {snapshot.label(entry)}" for entry in ended], MOST_NAMED)
        runs = "runs" if len(ended) > 1 else "run"
        console.print(f"{len(ended)} {runs} without a result, at the limit run_time: {names}. The spec with a larger "
                      "limit continues from the checkpoints.", soft_wrap=True)


def show_pruned(snapshot: Snapshot, console: Console) -> None:
    """Prints which configurations of a grid its pruner stopped, and how to train them to the end."""
    if not (pruned := [entry for entry in snapshot.entries if entry.pruned_by]):
        return
    begun = [entry for entry in pruned if entry.epoch]
    names = first_of([f"{entry.root} {snapshot.label(entry)} (epoch {entry.epoch})" for entry in begun], MOST_NAMED)
    by = " and ".join(sorted({str(entry.pruned_by) for entry in pruned}))
    others = len(pruned) - len(begun)
    were, more = "s were" if len(begun) != 1 else " was", ""
    if others:
        more = f" (and {others} run{'s' if others > 1 else ''} with other seeds not trained)"
    console.print(f"{len(begun)} configuration{were} stopped early by the {by} pruner: {names}{more}. --rerun RUN "
                  "trains a run to the end; the spec without pruner continues all.", soft_wrap=True)


def show_failures(snapshot: Snapshot, console: Console) -> None:
    """Prints which runs failed, and why."""
    failed = snapshot.having("failed")
    if not failed:
        return
    console.print(f"{len(failed)} of {len(snapshot.entries)} runs failed; retry them with --retry-failed:")
    for entry in failed:
        console.print(f"  {snapshot.label(entry)}: {entry.failure}", soft_wrap=True)
