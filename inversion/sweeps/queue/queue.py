"""The queue of a study: an Optuna study whose waiting trials are the runs to be done.

What Optuna leaves open is closed here. A claim is one transaction (``storage`` sees to it on SQLite too), and the
heartbeat is written before it, so that no claimed trial is without one. A dead worker's trial is failed, which only one
process can do, and everything failed without a reason is owed a new trial, which is made under a lock from what the
database says: whoever dies in between, the next one to look makes up for it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage, fail_stale_trials
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import InterfaceError, OperationalError

from inversion.config.document import VERSION
from inversion.progress import Progress, no_progress
from inversion.sweeps.queue.entry import (
    CONFIG,
    DIGEST,
    DOCUMENT,
    FAILURE,
    FALLBACKS,
    FIRST,
    HISTORY,
    HOLDS,
    MAX_DEATHS,
    MESSAGE,
    NAME,
    OWNER,
    RELEASED,
    RUN_ID,
    SCORES,
    Entry,
    deaths,
    latest,
)
from inversion.sweeps.queue.storage import knowingly_experimental
from inversion.tracking.lifecycle import DELETED
from inversion.tracking.locks import exclusive_lock
from inversion.tracking.masking import safe
from inversion.tracking.ownership import owner_is_alive, owner_tags, same_owner
from inversion.training.stop import StopRequest

DIED = "worker_died"
LOOK_AGAIN_SECONDS = 20.0
"""How long a worker believes what it has read of the waiting trials: reading 2,000 of them takes half a second."""


@dataclass(frozen=True)
class Queued:
    """A run to be queued: its parameters as plain data, and what identifies it. A search's has nothing yet."""

    name: str | None = None
    config: dict[str, Any] | None = None
    digest: str | None = None
    fallbacks: list[dict[str, str]] | None = None


class Queue:
    """The trials of one study in a storage; made for one process (its threads may share it)."""

    def __init__(self, storage: RDBStorage, study: optuna.Study, stop: StopRequest | None = None) -> None:
        self.storage = storage
        self.study = study
        self.stop = stop
        self.study_id: int = study._study_id
        self._waiting: list[Entry] = []
        self._read_at = -LOOK_AGAIN_SECONDS
        self._mended_at = -LOOK_AGAIN_SECONDS
        self._failed_at = -math.inf
        event.listen(storage.engine, "handle_error", self._note_failure)

    @property
    def heartbeat_seconds(self) -> int:
        """Seconds between two signs of life of a worker."""
        return self.storage.get_heartbeat_interval() or 1

    @property
    def grace_seconds(self) -> int:
        """Seconds of silence after which a worker counts as dead."""
        return self.storage.grace_period or 2 * self.heartbeat_seconds

    def entries(self) -> list[Entry]:
        """Every run of the study."""
        return latest(self._trials())

    def add(self, runs: Sequence[Queued], progress: Progress = no_progress) -> int:
        """Queues those whose digest is not there yet, and returns how many they were.

        Two processes that add the same at the same time add it once: the digests are read under the lock.
        """
        with self._alone():
            known = {trial.user_attrs.get(DIGEST) for trial in self._trials()}
            new = [run for run in runs if run.digest is None or run.digest not in known]
            for number, run in enumerate(new, start=1):
                self.study.add_trial(_waiting_trial(run))
                progress("queueing", number, len(new))
        return len(new)

    def grow(self, trials: int) -> int:
        """Brings the number of a search's trials up to ``trials``; returns how many were added."""
        with self._alone():
            missing = max(0, trials - len(latest(self._trials())))
            for _ in range(missing):
                self.study.add_trial(_waiting_trial(Queued()))
        return missing

    def claim(self) -> Entry | None:
        """Takes a waiting run, interrupted ones first; None if there is none. Only one worker gets each."""
        while True:
            if not self._waiting or time.monotonic() - self._read_at > LOOK_AGAIN_SECONDS:
                self._read_waiting()
            if not self._waiting:
                return None
            taken = self._take(self._waiting.pop(0))
            if taken is not None:
                return taken

    def claim_others(self, most: int, wanted: Callable[[Entry], bool]) -> list[Entry]:
        """Takes up to ``most`` further waiting runs that are wanted beside the one that was claimed last."""
        found: list[Entry] = []
        for entry in [entry for entry in self._waiting if wanted(entry)]:
            if len(found) == most:
                break
            self._waiting.remove(entry)
            if (taken := self._take(entry)) is not None:
                found.append(taken)
        return found

    def _take(self, entry: Entry) -> Entry | None:
        """A waiting run that is this process's from now on; None if it is somebody else's already."""
        trial_id = entry.trial._trial_id
        with suppress(UpdateFinishedTrialError):
            self.storage.record_heartbeat(trial_id)  # a claimed trial without one would never count as stale
            if self.storage.set_trial_state_values(trial_id, TrialState.RUNNING):
                self.storage.set_trial_user_attr(trial_id, OWNER, owner_tags())
                return Entry(self.storage.get_trial(trial_id))
        return None

    def recover_stale_trials(self, patient: bool = True) -> None:
        """Queues again what dead workers were at; ``patient`` only looks if nobody here has for a while.

        When the database was away, nobody could give signs of life: silence means nothing until a grace period later.
        """
        if patient and time.monotonic() - self._mended_at < self.heartbeat_seconds:
            return
        with self._alone():
            if time.monotonic() - self._failed_at >= self.grace_seconds:
                with knowingly_experimental():
                    fail_stale_trials(self.study)
            trials = self._trials()
            dead = [trial for trial in trials if trial.state == TrialState.RUNNING
                    and owner_is_alive(trial.user_attrs.get(OWNER, {})) is False]
            for trial in dead:  # on this machine nobody needs to wait for the grace period
                self._set_state(trial._trial_id, TrialState.FAIL)
            self._retry_owed(self._trials() if dead else trials)
        self._mended_at = time.monotonic()

    def retry_failed(self, kinds: Iterable[str] | None = None) -> list[Entry]:
        """Queues failed runs again (all, or those of some kinds) and returns them."""
        with self._alone():
            failed = [entry for entry in self.entries() if entry.state == "failed"
                      and (kinds is None or entry.trial.user_attrs[FAILURE] in kinds)]
            for entry in failed:
                if entry.trial.user_attrs[FAILURE] == DELETED:  # its last checkpoint too
                    self._begin_anew(entry)
                else:
                    self._enqueue_retry(entry)
        return failed

    def redo(self, finished: Sequence[Entry]) -> int:
        """Queues finished runs again, from their beginning: what they left is gone. Returns how many they were.

        Their trials stay in Optuna as they are, with their values.
        """
        with self._alone():
            now = {entry.trial._trial_id for entry in self.entries()}
            left = [entry for entry in finished if entry.trial._trial_id in now]  # else somebody else has done it
            for entry in left:
                self._begin_anew(entry)
        return len(left)

    def knows(self, owner: Mapping[str, str]) -> bool:
        """Whether a process works for this queue, or did."""
        return any(same_owner(trial.user_attrs.get(OWNER, {}), owner) for trial in self._trials())

    def has_died(self, entry: Entry) -> bool:
        """Whether a worker died at the run since it came an epoch further."""
        return len(entry.history) > 1 and deaths(entry, {trial.number: trial for trial in self._trials()}) > 0

    def is_mine(self, trial_id: int) -> bool:
        """Whether a trial that this process claimed is still its own: another gets a new trial, never this one."""
        return self.storage.get_trial(trial_id).state == TrialState.RUNNING

    def beat(self, trial_id: int) -> None:
        """A sign of life for a claimed trial."""
        self.storage.record_heartbeat(trial_id)

    def hold(self, trial_id: int, digest: str) -> bool:
        """Whether a claimed trial is the one to do the run of a digest: not while another one is at it.

        A search may suggest the same twice. Who asks first does it, whatever its number: it is at work already.
        """
        with self._alone():
            others = self.storage.get_all_trials(self.study_id, deepcopy=False, states=(TrialState.RUNNING,))
            if any(other.user_attrs.get(HOLDS) == digest for other in others if other._trial_id != trial_id):
                return False
            self.storage.set_trial_user_attr(trial_id, HOLDS, digest)
        return True

    def describe(self, trial_id: int, run: Queued) -> None:
        """Stores what a search's trial turned out to be, so that whoever goes on with it does the same."""
        for key, value in _attributes(run).items():
            self.storage.set_trial_user_attr(trial_id, key, value)

    def remember_run(self, trial_id: int, run_id: str) -> None:
        """Stores the id of the trial's MLflow run, before anything is trained.

        Raises:
            UpdateFinishedTrialError: the trial is no longer this process's.
        """
        self.storage.set_trial_user_attr(trial_id, RUN_ID, run_id)

    def report(self, trial_id: int, epoch: int, value: float) -> None:
        """What the run's reported metric is after an epoch.

        Raises:
            UpdateFinishedTrialError: the trial is no longer this process's.
        """
        self.storage.set_trial_intermediate_value(trial_id, epoch, value)

    def should_prune(self, trial_id: int) -> bool:
        """Whether the study's pruner would give the run up, from what was reported."""
        return bool(self.study.pruner.prune(self.study, self.storage.get_trial(trial_id)))

    def complete(self, trial_id: int, value: float, run_id: str, scores: dict[str, float]) -> None:
        """The run is FINISHED in MLflow with these scores; ``value`` is what a search optimises.

        Raises:
            UpdateFinishedTrialError: the trial is no longer this process's; its run is done all the same.
        """
        self.remember_run(trial_id, run_id)
        self.storage.set_trial_user_attr(trial_id, SCORES, scores)
        self._tell(trial_id, TrialState.COMPLETE, value)

    def prune(self, trial_id: int, why: str) -> None:
        """A search has given the run up."""
        self.storage.set_trial_user_attr(trial_id, MESSAGE, why)
        self._tell(trial_id, TrialState.PRUNED)

    def fail(self, trial_id: int, kind: str, message: str) -> None:
        """The run itself failed; it is tried again only when somebody asks for that."""
        self.storage.set_trial_user_attr(trial_id, MESSAGE, safe(message))
        self.storage.set_trial_user_attr(trial_id, FAILURE, kind)
        self._tell(trial_id, TrialState.FAIL)

    def release(self, trial_id: int, why: str) -> None:
        """Gives a run back that is to go on later."""
        self.storage.set_trial_user_attr(trial_id, RELEASED, safe(why))
        self._set_state(trial_id, TrialState.FAIL)
        with self._alone():
            self._retry_owed(self._trials())

    def _alone(self) -> Any:
        return exclusive_lock(self.storage.url, self.stop)

    def _trials(self) -> list[FrozenTrial]:
        return self.storage.get_all_trials(self.study_id, deepcopy=False)

    def _read_waiting(self) -> None:
        waiting = self.storage.get_all_trials(self.study_id, deepcopy=False, states=(TrialState.WAITING,))
        self._waiting = sorted(map(Entry, waiting),
                               key=lambda entry: (entry.state != "interrupted", entry.trial.number))
        self._read_at = time.monotonic()

    def _retry_owed(self, trials: list[FrozenTrial]) -> None:
        """A new trial for each run whose last one ended without a reason; called under the lock."""
        by_number = {trial.number: trial for trial in trials}
        for entry in latest(trials):
            if entry.trial.state == TrialState.FAIL and entry.state == "interrupted":
                died = deaths(entry, by_number)
                self._enqueue_retry(entry, f"its worker died {died} times" if died >= MAX_DEATHS else None)

    def _enqueue_retry(self, entry: Entry, given_up: str | None = None) -> None:
        """A new trial in place of a failed one: waiting, or failed at once with the reason why it is given up.

        What ``optuna.storages.RetryHeartbeatStaleTrialCallback`` makes, without the failed trial's reasons.
        """
        old = entry.trial
        own = {RELEASED, FAILURE, MESSAGE, OWNER, HOLDS}
        attributes = {key: value for key, value in old.user_attrs.items() if key not in own}
        self.study.add_trial(optuna.create_trial(
            state=TrialState.FAIL if given_up else TrialState.WAITING,
            params=old.params,
            distributions=old.distributions,
            user_attrs=attributes | ({FAILURE: DIED, MESSAGE: given_up} if given_up else {}),
            system_attrs={**old.system_attrs, FIRST: entry.root, HISTORY: entry.history},
            intermediate_values=old.intermediate_values,
        ))

    def _begin_anew(self, entry: Entry) -> None:
        """A new trial for a run of which nothing is left but what it is."""
        old = entry.trial
        self.study.add_trial(optuna.create_trial(
            state=TrialState.WAITING,
            params=old.params,
            distributions=old.distributions,
            user_attrs={key: old.user_attrs[key] for key in (NAME, CONFIG, DIGEST, FALLBACKS) if key in old.user_attrs},
            system_attrs={FIRST: entry.root},
        ))

    def _set_state(self, trial_id: int, state: TrialState) -> None:
        with suppress(UpdateFinishedTrialError):  # somebody else was quicker
            self.storage.set_trial_state_values(trial_id, state)

    def _tell(self, trial_id: int, state: TrialState, value: float | None = None) -> None:
        number = self.storage.get_trial(trial_id).number
        try:
            self.study.tell(number, value, state)
        except ValueError as error:  # Optuna's word for a trial that is not running, and for a value that is none
            if self.is_mine(trial_id):
                raise
            raise UpdateFinishedTrialError(str(error)) from error

    def _note_failure(self, context: ExceptionContext) -> None:
        if isinstance(context.sqlalchemy_exception, OperationalError | InterfaceError):
            self._failed_at = time.monotonic()


def _waiting_trial(run: Queued) -> FrozenTrial:
    return optuna.create_trial(state=TrialState.WAITING, user_attrs=_attributes(run))


def _attributes(run: Queued) -> dict[str, Any]:
    attributes = {NAME: run.name, CONFIG: run.config, DIGEST: run.digest, FALLBACKS: run.fallbacks,
                  DOCUMENT: VERSION if run.config is not None else None}
    return {key: value for key, value in attributes.items() if value is not None}
