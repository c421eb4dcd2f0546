"""The queue of a study: an Optuna study whose waiting trials are the runs to do.

Claiming a trial is one transaction (``storage`` makes it atomic on SQLite too). Its first heartbeat is written before
the claim, so that no claimed trial is without one. ``recovery`` takes over the runs of dead workers.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.pruners import BasePruner
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import InterfaceError, OperationalError

from inversion.config.document import VERSION
from inversion.progress import Progress, no_progress
from inversion.sweeps.queue.allowance import COMMAND, Allowance
from inversion.sweeps.queue.entry import (
    COMPETITOR,
    CONFIG,
    DIGEST,
    DOCUMENT,
    FAILURE,
    FALLBACKS,
    HOLDS,
    MESSAGE,
    NAME,
    NOT_CHOSEN,
    OWNER,
    PRIORITY,
    PRUNED_BY,
    REACHED,
    RELEASED,
    RUN_ID,
    SCORES,
    STOP,
    STOPPED,
    TIME_LIMIT,
    TO_THE_END,
    Entry,
    latest,
)
from inversion.sweeps.queue.pruning import PRUNER, Competitor, Contest, should_prune
from inversion.sweeps.queue.reader import TrialReader
from inversion.sweeps.queue.recovery import (
    deaths,
    enqueue_from_scratch,
    enqueue_owed_retries,
    enqueue_retry,
    fail_trial,
    recover_stale_trials,
)
from inversion.sweeps.queue.tuning import TUNING, TunedRun, Tuning, as_attribute, read_tuning
from inversion.tracking.lifecycle import DELETED
from inversion.tracking.locks import exclusive_lock
from inversion.tracking.masking import safe
from inversion.tracking.ownership import owner_tags, same_owner
from inversion.training.stop import StopRequest

REREAD_SECONDS = 20.0
"""How long a worker relies on its list of waiting trials."""


@dataclass(frozen=True)
class Queued:
    """A run to queue: its parameters as plain data, and its digest. A run of a search has neither before it starts."""

    name: str | None = None
    config: dict[str, Any] | None = None
    digest: str | None = None
    fallbacks: list[dict[str, str]] | None = None
    tuned: TunedRun | None = None
    priority: int = 0
    competitor: Competitor | None = None


class Queue:
    """The trials of one study. Not to be shared between processes; threads may share it.

    Args:
        storage: From ``open_storage``, with heartbeat interval and grace period.
        study: The Optuna study in it.
        stop: Ends every wait for the queue's lock.
        clock: Seconds that only ever increase.

    Attributes:
        allowance: Limits the runs that are claimed; None for no limit.
    """

    def __init__(self, storage: RDBStorage, study: optuna.Study, stop: StopRequest | None = None,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self.storage = storage
        self.study = study
        self.stop = stop
        self.clock = clock
        self.study_id: int = study._study_id
        self._reader = TrialReader(storage, self.study_id)
        self.allowance: Allowance | None = None
        self._waiting: list[Entry] = []
        self._read_at = self._recovered_at = self._database_failed_at = -math.inf
        event.listen(storage.engine, "handle_error", self._note_failure)

    @property
    def heartbeat_seconds(self) -> int:
        """Seconds between two heartbeats of a worker."""
        return self.storage.get_heartbeat_interval() or 1

    @property
    def grace_seconds(self) -> int:
        """Seconds without a heartbeat after which a worker counts as dead."""
        return self.storage.grace_period or 2 * self.heartbeat_seconds

    def entries(self) -> list[Entry]:
        """Every run of the study."""
        return latest(self._reader.read())

    def add(self, runs: Sequence[Queued], progress: Progress = no_progress) -> int:
        """Queues the runs whose digest is not in the queue yet; returns how many were added.

        Of runs that are waiting already, the priority is updated.

        The digests are read under the lock, so two processes that add the same run at once add it once.
        """
        with self.locked():
            self._remember_tuned(runs)  # before the runs can be claimed
            known = {entry.digest: entry for entry in self.entries() if entry.digest is not None}
            new = [run for run in runs if run.digest is None or run.digest not in known]
            for run in runs:
                self._prioritise(known.get(run.digest or ""), run.priority)
            for number, run in enumerate(new, start=1):
                self.study.add_trial(_waiting_trial(run))
                progress("queueing", number, len(new))
        return len(new)

    def _prioritise(self, entry: Entry | None, priority: int) -> None:
        if entry is not None and entry.trial.state == TrialState.WAITING and entry.priority != priority:
            with suppress(UpdateFinishedTrialError):  # it was claimed and has ended meanwhile
                self.storage.set_trial_user_attr(entry.trial._trial_id, PRIORITY, priority)

    def tuning(self, entries: Iterable[Entry]) -> Tuning:
        """What has been tried and chosen, given the runs of the study."""
        return read_tuning(self.storage.get_study_user_attrs(self.study_id), entries)

    def _remember_tuned(self, runs: Sequence[Queued]) -> None:
        """Adds the tuned runs to those of the study: a run may have been queued before it was one of them."""
        if tuned := {run.digest: run.tuned for run in runs if run.tuned and run.digest}:
            before = self.study.user_attrs.get(TUNING, {})
            self.study.set_user_attr(TUNING, before | as_attribute(tuned))

    def grow(self, trials: int) -> int:
        """Queues trials of a search until there are ``trials``; returns how many were added."""
        with self.locked():
            missing = max(0, trials - len(self.entries()))
            for _ in range(missing):
                self.study.add_trial(_waiting_trial(Queued()))
        return missing

    def claim(self) -> Entry | None:
        """Claims a waiting run, in the order of ``Entry.turn``. Only one worker can claim a run.

        Returns:
            The claimed run; None if none is waiting, or if no more are allowed.

        Raises:
            StorageInternalError, SQLAlchemyError: the database does not answer or rejects the request. ``patiently``
                retries the call; a claim that was written but not confirmed is recovered like that of a dead worker.
        """
        while True:
            # with a limit, an interrupted run goes before one that has not begun, which would take its place
            if not self._waiting or self.allowance or self.clock() - self._read_at > REREAD_SECONDS:
                self._read_waiting()
            if not self._waiting:
                return None
            with self._allowed() as allowed:
                if not allowed:
                    return None
                claimed = self._take(self._waiting.pop(0))
            if claimed is not None:
                return claimed

    def claim_others(self, most: int, wanted: Callable[[Entry], bool]) -> list[Entry]:
        """Claims up to ``most`` more waiting runs that are ``wanted``, from the list that the last claim read.

        Raises:
            StorageInternalError, SQLAlchemyError: as ``claim``.
        """
        found: list[Entry] = []
        for entry in [entry for entry in self._waiting if wanted(entry)]:
            if len(found) == most:
                break
            with self._allowed() as allowed:
                if not allowed:
                    break
                self._waiting.remove(entry)
                claimed = self._take(entry)
            if claimed is not None:
                found.append(claimed)
        return found

    def is_used_up(self, entries: Iterable[Entry]) -> bool:
        """Whether as many runs as are allowed have ended."""
        return self.allowance is not None and self.allowance.is_used_up(entries)

    @contextmanager
    def _allowed(self) -> Iterator[bool]:
        """Whether one more run may be claimed; with a limit, no other worker of the command claims one meanwhile."""
        if self.allowance is None:
            yield True
            return
        with self.locked():
            yield len(self.allowance.taken(self.entries())) < self.allowance.most

    def _take(self, entry: Entry) -> Entry | None:
        """Claims a waiting run as one of those that are allowed."""
        claimed = self.try_to_claim(entry)
        if claimed is not None and self.allowance is not None:
            self.storage.set_trial_user_attr(claimed.trial._trial_id, COMMAND, self.allowance.command)
        return claimed

    def try_to_claim(self, entry: Entry) -> Entry | None:
        """Claims one waiting run; None if another worker was faster."""
        trial_id = entry.trial._trial_id
        with suppress(UpdateFinishedTrialError):
            self.storage.record_heartbeat(trial_id)  # without one, a claimed trial would never count as stale
            if self.storage.set_trial_state_values(trial_id, TrialState.RUNNING):
                self.storage.set_trial_user_attr(trial_id, OWNER, owner_tags())
                return Entry(self.storage.get_trial(trial_id))
        return None

    def recover_stale_trials(self, throttle: bool = False) -> None:
        """Queues the runs of dead workers again; with ``throttle``, at most once per heartbeat interval.

        While the database was unreachable, no worker could send heartbeats: for a grace period after that, a missing
        heartbeat means nothing.
        """
        if throttle and self.clock() - self._recovered_at < self.heartbeat_seconds:
            return
        with self.locked():
            heartbeats_count = self.clock() - self._database_failed_at >= self.grace_seconds
            recover_stale_trials(self.study, self.storage, self._reader, heartbeats_count)
        self._recovered_at = self.clock()

    def retry_failed(self, kinds: Iterable[str] | None = None) -> list[Entry]:
        """Queues failed runs again (all, or those with a failure of these kinds) and returns them."""
        with self.locked():
            failed = [entry for entry in self.entries() if entry.state == "failed"
                      and (kinds is None or entry.trial.user_attrs[FAILURE] in kinds)]
            self._retry(failed)
        return failed

    def resume(self, ended: Sequence[Entry]) -> list[Entry]:
        """Queues stopped, timed out, failed or pruned runs again, from their last checkpoints; returns those that still
        were.
        """
        with self.locked():
            left = self._unchanged(ended)
            self._retry(left)
        return left

    def _retry(self, ended: Iterable[Entry]) -> None:
        for entry in ended:
            never_begun = entry.state == "pruned" and entry.run_id is None
            if never_begun or entry.trial.user_attrs.get(FAILURE) == DELETED:  # with its checkpoints
                enqueue_from_scratch(self.study, entry)
            else:
                enqueue_retry(self.study, entry)

    def redo(self, ended: Sequence[Entry], to_the_end: bool = False) -> list[Entry]:
        """Queues runs that have ended again from scratch, as their results do not count; returns those that were.

        Their old trials stay in Optuna, with their values. With ``to_the_end``, no pruner stops the new ones.
        """
        with self.locked():
            left = self._unchanged(ended)
            for entry in left:
                enqueue_from_scratch(self.study, entry, to_the_end)
        return left

    def _unchanged(self, entries: Sequence[Entry]) -> list[Entry]:
        """Those that no other process has queued again meanwhile."""
        now = {entry.trial._trial_id for entry in self.entries()}
        return [entry for entry in entries if entry.trial._trial_id in now]

    def ask_to_stop(self, entry: Entry) -> bool:
        """Asks the worker of a running run to stop it; False if the run has ended meanwhile."""
        try:
            self.storage.set_trial_user_attr(entry.trial._trial_id, STOP, True)
        except UpdateFinishedTrialError:
            return False
        return True

    def is_to_stop(self, trial_id: int) -> bool:
        """Whether a claimed trial was asked to stop."""
        return STOP in self.storage.get_trial(trial_id).user_attrs

    def stop_waiting(self, entry: Entry, why: str) -> bool:
        """Stops a waiting run before a worker takes it; False if one was faster."""
        taken = self.try_to_claim(entry)
        if taken is not None:
            self.fail(taken.trial._trial_id, STOPPED, why)
        return taken is not None

    def knows(self, owner: Mapping[str, str]) -> bool:
        """Whether a process is or was a worker of this queue."""
        return any(same_owner(trial.user_attrs.get(OWNER, {}), owner) for trial in self._reader.read())

    def has_died(self, entry: Entry) -> bool:
        """Whether a worker died at the run since it last completed an epoch."""
        return len(entry.history) > 1 and deaths(entry, {trial.number: trial for trial in self._reader.read()}) > 0

    def is_mine(self, trial_id: int) -> bool:
        """Whether a trial that this process claimed is still its own. A run that is taken over gets a new trial."""
        return self.storage.get_trial(trial_id).state == TrialState.RUNNING

    def beat(self, trial_id: int) -> None:
        """Writes a heartbeat for a claimed trial."""
        self.storage.record_heartbeat(trial_id)

    def hold(self, trial_id: int, digest: str) -> bool:
        """Reserves a digest for a claimed trial; False while another running trial has it.

        A search may suggest the same configuration twice: the first trial that asks does the run.
        """
        with self.locked():
            others = self._reader.read([TrialState.RUNNING])
            if any(other.user_attrs.get(HOLDS) == digest for other in others if other._trial_id != trial_id):
                return False
            self.storage.set_trial_user_attr(trial_id, HOLDS, digest)
        return True

    def describe(self, trial_id: int, run: Queued) -> None:
        """Stores the parameters of a search's trial, so that whoever resumes it has the same."""
        for key, value in _attributes(run).items():
            self.storage.set_trial_user_attr(trial_id, key, value)

    def remember_run(self, trial_id: int, run_id: str) -> None:
        """Stores the id of the trial's MLflow run, before training starts.

        Raises:
            UpdateFinishedTrialError: the trial is no longer this process's.
        """
        self.storage.set_trial_user_attr(trial_id, RUN_ID, run_id)

    def report(self, trial_id: int, epoch: int, value: float) -> None:
        """Reports the value of the study's metric after an epoch.

        Raises:
            UpdateFinishedTrialError: the trial is no longer this process's.
        """
        self.storage.set_trial_intermediate_value(trial_id, epoch, value)

    def should_prune(self, trial_id: int, pruner: BasePruner) -> bool:
        """Whether a pruner would stop the run, given the reported values.

        In a search, all runs compete; in a grid, those that ``Contest`` names.

        Raises:
            UpdateFinishedTrialError: the trial is no longer this process's.
        """
        attributes, entries = self.storage.get_study_user_attrs(self.study_id), self.entries()
        entry = next((entry for entry in entries if entry.trial._trial_id == trial_id), None)
        if entry is None or TO_THE_END in entry.trial.user_attrs:
            return False
        if PRUNER in attributes:
            contest = self._contest(entries)
            if attributes[PRUNER] is None or not contest.competes(entry):
                return False
            entries = contest.rivals(entry)
        stops, marks = should_prune(pruner, self.study, entries, entry)
        for key, value in marks.items():
            self.storage.set_trial_system_attr(trial_id, key, value)
        return stops

    def complete(self, trial_id: int, value: float, run_id: str, scores: dict[str, float]) -> None:
        """Completes a trial whose run is FINISHED in MLflow with these scores; ``value`` is the search's objective.

        Raises:
            UpdateFinishedTrialError: the trial is no longer this process's; the run is finished all the same.
        """
        self.remember_run(trial_id, run_id)
        self.storage.set_trial_user_attr(trial_id, SCORES, scores)
        self._finish(trial_id, TrialState.COMPLETE, value)

    def prune(self, trial_id: int, why: str) -> None:
        """Ends a trial that the pruner stopped."""
        self.storage.set_trial_user_attr(trial_id, MESSAGE, why)
        if pruner := self.storage.get_study_user_attrs(self.study_id).get(PRUNER):
            self.storage.set_trial_user_attr(trial_id, PRUNED_BY, pruner["name"])
        self._finish(trial_id, TrialState.PRUNED)

    def fail(self, trial_id: int, kind: str, message: str) -> None:
        """Records that the run itself failed: it is retried only on request (``retry_failed``)."""
        self.storage.set_trial_user_attr(trial_id, MESSAGE, safe(message))
        self.storage.set_trial_user_attr(trial_id, FAILURE, kind)
        self._finish(trial_id, TrialState.FAIL)

    def time_out(self, trial_id: int, run_time: float, message: str) -> None:
        """Records that the run has reached its limit of so many seconds: a larger limit resumes it."""
        self.storage.set_trial_user_attr(trial_id, REACHED, run_time)
        self.fail(trial_id, TIME_LIMIT, message)

    def release(self, trial_id: int, why: str) -> None:
        """Requeues a run that was interrupted, to be resumed later."""
        self.storage.set_trial_user_attr(trial_id, RELEASED, safe(why))
        fail_trial(self.storage, trial_id)
        with self.locked():
            enqueue_owed_retries(self.study, self._reader.read())

    def locked(self) -> Any:
        """Holds the lock of the queue's database while the block runs."""
        return exclusive_lock(self.storage.url, self.stop)

    def _read_waiting(self) -> None:
        attributes = self.storage.get_study_user_attrs(self.study_id)
        waiting = self._settle_choices() if TUNING in attributes else self._having(TrialState.WAITING)
        if attributes.get(PRUNER):
            waiting = self._settle_contest(waiting)
        self._waiting = sorted(waiting, key=lambda entry: entry.turn)
        self._read_at = self.clock()

    def _having(self, state: TrialState) -> list[Entry]:
        return [Entry(trial) for trial in self._reader.read([state])]

    def _settle_choices(self) -> list[Entry]:
        """The waiting runs that can be done now; those of values that were not chosen are pruned."""
        entries = self.entries()
        tuning = self.tuning(entries)
        again = [entry for entry in entries if entry.state == "not chosen" and tuning.stage(entry) == "free"]
        if again:  # the choice has changed: a failed run was retried, or a value was added
            self.redo(again)
        waiting = self._having(TrialState.WAITING)
        for entry in waiting:
            if tuning.stage(entry) == "unchosen" and (taken := self.try_to_claim(entry)) is not None:
                trial_id = taken.trial._trial_id
                self.storage.set_trial_user_attr(trial_id, NOT_CHOSEN, True)
                self.prune(trial_id, "another value was chosen by validation")
        return [entry for entry in waiting if tuning.stage(entry) == "free"]

    def _contest(self, entries: Sequence[Entry]) -> Contest:
        return Contest(entries, self.tuning(entries).runs)

    def _settle_contest(self, waiting: Sequence[Entry]) -> list[Entry]:
        """The waiting runs that can be done now; the other seeds of configurations that were pruned are pruned too."""
        contest = self._contest(self.entries())
        for entry in waiting:
            if contest.stage(entry) == "lost" and (taken := self.try_to_claim(entry)) is not None:
                first = contest.first(entry)
                self.prune(taken.trial._trial_id, f"not trained: run {first.root}, another seed of its configuration, "
                                                  "was pruned")
        return [entry for entry in waiting if contest.stage(entry) == "free"]

    def _finish(self, trial_id: int, state: TrialState, value: float | None = None) -> None:
        number = self.storage.get_trial(trial_id).number
        try:
            self.study.tell(number, value, state)
        except ValueError as error:  # Optuna raises it for a trial that is not running, and for an invalid value
            if self.is_mine(trial_id):
                raise
            raise UpdateFinishedTrialError(str(error)) from error

    def _note_failure(self, context: ExceptionContext) -> None:
        if isinstance(context.sqlalchemy_exception, OperationalError | InterfaceError):
            self._database_failed_at = self.clock()


def _waiting_trial(run: Queued) -> FrozenTrial:
    return optuna.create_trial(state=TrialState.WAITING, user_attrs=_attributes(run))


def _attributes(run: Queued) -> dict[str, Any]:
    attributes = {NAME: run.name, CONFIG: run.config, DIGEST: run.digest, FALLBACKS: run.fallbacks,
                  DOCUMENT: VERSION if run.config is not None else None, PRIORITY: run.priority or None,
                  COMPETITOR: asdict(run.competitor) if run.competitor else None}
    return {key: value for key, value in attributes.items() if value is not None}
