"""How a dead worker's run is taken over: its trial fails, and a new trial of the same run is enqueued.

Only one process can fail a trial. A trial that failed without a recorded reason is always owed a retry, and whoever
looks next enqueues it: a process that dies in between loses nothing. Callers hold the lock of the queue.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage, fail_stale_trials
from optuna.trial import FrozenTrial, TrialState

from inversion.sweeps.queue.allowance import COMMAND
from inversion.sweeps.queue.entry import (
    COMPETITOR,
    CONFIG,
    DIGEST,
    DOCUMENT,
    FAILURE,
    FALLBACKS,
    FIRST,
    HISTORY,
    HOLDS,
    MESSAGE,
    NAME,
    OWNER,
    PRIORITY,
    PRUNED_BY,
    REACHED,
    RELEASED,
    STOP,
    STOPPED,
    TO_THE_END,
    Entry,
    latest,
)
from inversion.sweeps.queue.reader import TrialReader
from inversion.sweeps.queue.storage import knowingly_experimental
from inversion.tracking.ownership import owner_is_alive

DIED = "worker_died"
MAX_DEATHS = 5
"""A run whose workers died this often without completing an epoch may be the cause. It is not retried until the sweep
is started again."""


def recover_stale_trials(study: optuna.Study, storage: RDBStorage, reader: TrialReader, heartbeats_count: bool) -> None:
    """Fails the running trials of dead workers and enqueues their retries.

    Dead are workers whose process on this machine is gone, and, if ``heartbeats_count``, those of any machine whose
    last heartbeat is older than the grace period.
    """
    if heartbeats_count:
        with knowingly_experimental():
            fail_stale_trials(study)
    trials = reader.read()
    dead = [trial for trial in trials if trial.state == TrialState.RUNNING
            and owner_is_alive(trial.user_attrs.get(OWNER, {})) is False]
    for trial in dead:  # no need to wait for the grace period on this machine
        fail_trial(storage, trial._trial_id)
    enqueue_owed_retries(study, reader.read() if dead else trials)


def fail_trial(storage: RDBStorage, trial_id: int) -> None:
    """Fails a trial, unless another process has finished it first."""
    with suppress(UpdateFinishedTrialError):
        storage.set_trial_state_values(trial_id, TrialState.FAIL)


def enqueue_owed_retries(study: optuna.Study, trials: list[FrozenTrial]) -> None:
    """Enqueues a new trial for each run whose latest one failed without a recorded failure."""
    by_number = {trial.number: trial for trial in trials}
    for entry in latest(trials):
        if entry.trial.state == TrialState.FAIL and entry.state == "interrupted":
            enqueue_retry(study, entry, _why_not_retried(entry, by_number))


def _why_not_retried(entry: Entry, trials: Mapping[int, FrozenTrial]) -> tuple[str, str] | None:
    """Kind and message of the failure with which a run whose worker is gone ends; None if it is retried."""
    if STOP in entry.trial.user_attrs:
        return STOPPED, "its worker ended after the run was asked to stop"
    died = deaths(entry, trials)
    return (DIED, f"its worker died {died} times") if died >= MAX_DEATHS else None


def enqueue_retry(study: optuna.Study, entry: Entry, given_up: tuple[str, str] | None = None) -> None:
    """Enqueues a new trial that resumes a failed one; with ``given_up``, a failure's kind and message, the new trial
    fails at once.

    Like ``optuna.storages.RetryHeartbeatStaleTrialCallback``, but without the failed trial's reasons.
    """
    old = entry.trial
    own = {RELEASED, FAILURE, MESSAGE, OWNER, HOLDS, STOP, COMMAND, REACHED, PRUNED_BY}
    attributes = {key: value for key, value in old.user_attrs.items() if key not in own}
    study.add_trial(optuna.create_trial(
        state=TrialState.FAIL if given_up else TrialState.WAITING,
        params=old.params,
        distributions=old.distributions,
        user_attrs=attributes | (dict(zip((FAILURE, MESSAGE), given_up, strict=True)) if given_up else {}),
        system_attrs={**old.system_attrs, FIRST: entry.root, HISTORY: entry.history},
        intermediate_values=old.intermediate_values,
    ))


def enqueue_from_scratch(study: optuna.Study, entry: Entry, to_the_end: bool = False) -> None:
    """Enqueues a new trial for a run whose checkpoints and results are gone; with ``to_the_end``, no pruner stops it.
    """
    old = entry.trial
    kept = {key: value for key, value in old.user_attrs.items()
            if key in (NAME, CONFIG, DOCUMENT, DIGEST, FALLBACKS, PRIORITY, COMPETITOR,
                       TO_THE_END)}
    study.add_trial(optuna.create_trial(
        state=TrialState.WAITING,
        params=old.params,
        distributions=old.distributions,
        user_attrs=kept | ({TO_THE_END: True} if to_the_end else {}),
        system_attrs={FIRST: entry.root},
    ))


def deaths(entry: Entry, trials: Mapping[int, FrozenTrial]) -> int:
    """How many workers died at this run since it last completed an epoch: trials that failed without a reason."""
    died, reached = 0, -1
    for trial in (trials[number] for number in entry.history):
        if (trial.last_step or 0) > reached:  # a retry starts with the reported epochs of the trial before
            died, reached = 0, trial.last_step or 0
        died += trial.state == TrialState.FAIL and not {RELEASED, FAILURE} & trial.user_attrs.keys()
    return died
