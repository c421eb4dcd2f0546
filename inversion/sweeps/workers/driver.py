"""Driving a study: workers are started and kept alive, what they do is shown, and at the end it is summed up."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

from inversion.console import Console, make_table
from inversion.report import leaderboard
from inversion.sweeps.queue.entry import Entry
from inversion.sweeps.queue.queue import Queue
from inversion.sweeps.queue.snapshot import Snapshot
from inversion.sweeps.queue.storage import open_storage, patiently
from inversion.sweeps.study.parent import hold_parent
from inversion.sweeps.study.parent_files import log_runs
from inversion.sweeps.study.reconcile import end_parent, reconcile, reconcile_members
from inversion.sweeps.study.study import Study, open_study
from inversion.sweeps.workers.live import View
from inversion.sweeps.workers.local import WorkerSpec
from inversion.tracking.address import absolute
from inversion.tracking.connection import Connection, require_answer
from inversion.tracking.ownership import take_over
from inversion.tracking.store_errors import NoTrackingError, is_lost, is_refused, reason
from inversion.tracking.study import children
from inversion.training.stop import StopRequest

MOST_NAMED = 20
LOOK_SECONDS = 1.0
MOST_SECONDS = 10.0
SHARE_OF_LOOKING = 0.2
"""At most so much of the time goes into reading the queue: 2,000 runs take half a second."""

_logger = logging.getLogger(__name__)


class Crew(Protocol):
    """Workers, wherever they run."""

    @property
    def per_machine(self) -> int:
        """How many share the cores of a machine."""

    def start(self, spec: WorkerSpec) -> None:
        """Starts every worker."""

    def tend(self, count_done: Callable[[], int]) -> list[str]:
        """Replaces workers that died and tells of each; ``count_done`` says how many runs of the study are done."""

    def working(self) -> int:
        """How many workers are alive."""

    def troubles(self) -> list[str]:
        """What the workers said that ended before the work did."""

    def stop(self) -> None:
        """Lets the workers save their checkpoints and give their runs back."""


class Driver:
    """Keeps a crew at work on a study until nothing is left of it, whoever does it."""

    def __init__(self, study: Study, connection: Connection, crew: Crew, console: Console,
                 side_by_side: int = 1) -> None:
        self.study = study
        self.connection = connection
        self.crew = crew
        self.console = console
        self.side_by_side = side_by_side
        looking = open_study(open_storage(study.queue.storage.url, reading=True), study.name)
        self.reading = looking.queue
        self.reconciled_at = -math.inf

    def drive(self, stop: StopRequest) -> Snapshot:
        """Works until the study is done, the workers are gone, or somebody asks to stop; returns how it stands."""
        title, workers = f"study {self.study.name}", 0
        try:
            self.crew.start(self._order())
            with View(self.console, title, self.study.metric, workers) as view:
                while True:
                    began = time.monotonic()
                    snapshot = look(self.reading, stop)
                    pause = max(LOOK_SECONDS, (time.monotonic() - began) / SHARE_OF_LOOKING)
                    view.workers = self.crew.working()
                    view.update(snapshot)
                    if snapshot.is_done or stop.reason is not None:
                        break
                    self._tend(stop)
                    if self.crew.working() == 0:
                        break
                    self._put_in_line(stop)
                    stop.wait(min(pause, MOST_SECONDS))
        finally:
            if stop.reason is not None:
                self.console.print(f"{stop.reason}: the workers save their checkpoints", soft_wrap=True)
            self.crew.stop()
        return look(self.reading, stop)

    def _order(self) -> WorkerSpec:
        study = self.study
        return WorkerSpec(study.name, study.queue.storage.url, absolute(self.connection.uri), study.experiment,
                     side_by_side=self.side_by_side)

    def _tend(self, stop: StopRequest) -> None:
        """Has dead workers replaced, and what they left put in line at once: it shows, and others can go on with it."""
        for death in self.crew.tend(lambda: self._count_done(stop)):
            self.console.print(death, soft_wrap=True)
            self.reconciled_at = -math.inf

    def _count_done(self, stop: StopRequest) -> int:
        """How many runs have nothing left to do, those that are given up now because their workers died too."""
        patiently(lambda: self.study.queue.recover_stale_trials(patient=False), "looking for dead workers", stop)
        return len(look(self.reading, stop).having("finished", "pruned", "failed"))

    def _put_in_line(self, stop: StopRequest) -> None:
        """Now and then, what dead workers of this or other machines have left."""
        if time.monotonic() - self.reconciled_at < self.study.queue.heartbeat_seconds:
            return
        patiently(lambda: self.study.queue.recover_stale_trials(patient=False), "looking for dead workers", stop)
        try:
            require_answer(self.connection.uri)  # MLflow itself would try for minutes
            if hold_parent(self.study, self.connection):
                reconcile_members(self.study, self.connection)
            reconcile(self.study.queue, self.connection, self.study.name)
            parent = self.connection.client.get_run(self.study.parent.run_id)
            if parent.info.status != "RUNNING":  # another driver was stopped, or found dead
                take_over(self.connection.client, parent.info.run_id)
        except Exception as error:
            # a refusal too: a run that was deleted while it was looked at is not there at the next look
            if not (isinstance(error, NoTrackingError) or is_lost(error) or is_refused(error)):
                raise
            _logger.warning("the tracking store is not in line with the queue: %s", reason(error))
        self.reconciled_at = time.monotonic()


def look(queue: Queue, stop: StopRequest | None = None) -> Snapshot:
    """How a study stands now."""
    return Snapshot(patiently(queue.entries, "reading the queue", stop), datetime.now())


def sum_up(study: Study, connection: Connection, console: Console, stop: StopRequest | None = None) -> Snapshot:
    """Puts MLflow in line, logs the runs and the leaderboard, ends the parent run; returns how the study stands.

    Raises:
        ExperimentDeletedError: nothing of it is there any more.
    """
    patiently(lambda: study.queue.recover_stale_trials(patient=False), "looking for dead workers", stop)
    snapshot = look(study.queue, stop)
    try:
        hold_parent(study, connection)
        reconcile(study.queue, connection, study.name)
        snapshot = look(study.queue, stop).without(reconcile_members(study, connection))
        log_runs(connection, study.parent.run_id, snapshot.entries)
        rows = leaderboard.leaderboard(children(connection, study.name, "attributes.status = 'FINISHED'"))
        if rows and snapshot.is_done:
            leaderboard.show(rows, console)
        if rows:
            connection.client.log_text(study.parent.run_id, leaderboard.as_csv(rows), "leaderboard.csv")
    finally:  # a store that refuses this has refused the runs: why they failed is in the queue
        show_failures(snapshot, console)
        show_deleted(snapshot.having("deleted"), console)
    end_parent(connection, study.parent.run_id, snapshot)
    return snapshot


def show_deleted(deleted: Sequence[Entry], console: Console) -> None:
    """Which finished runs were deleted, and what to do."""
    if not deleted:
        return
    names = ", ".join(entry.name for entry in deleted[:MOST_NAMED]) + (", …" if len(deleted) > MOST_NAMED else "")
    console.print(f"{len(deleted)} finished runs were deleted in MLflow: {names}. inversion-sweep with a spec that "
                  "asks for them does them again; `mlflow runs restore` brings back what `mlflow gc` has not removed.",
                  soft_wrap=True)


def show_failures(snapshot: Snapshot, console: Console) -> None:
    """What failed, and why."""
    failed = snapshot.having("failed")
    if not failed:
        return
    table = make_table("run", "why", title=f"{len(failed)} of {len(snapshot.entries)} runs failed")
    for entry in failed:
        table.add_row(entry.name, entry.failure)
    console.print(table)
    console.print("try them again with --retry-failed")
