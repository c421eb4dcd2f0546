"""Removing runs from a queue before they are done."""

from __future__ import annotations

from collections.abc import Sequence

from inversion.sweeps.queue.entry import REMOVED, WAITING, Entry
from inversion.sweeps.queue.queue import Queue
from inversion.sweeps.queue.recovery import fail_trial
from inversion.sweeps.queue.selection import Change
from inversion.sweeps.queue.tuning import TUNING

REMOVAL = Change("remove", WAITING, "waiting", "removed", {
    "running": "it is running: --stop it first",
    "failed": "it has failed: --retry-failed runs it again",
    "finished": "it is finished, and its result is in MLflow: `mlflow runs delete --run-id {run_id}` deletes it"})


def remove_waiting(queue: Queue, entries: Sequence[Entry]) -> list[Entry]:
    """Removes waiting runs; returns those that no worker has claimed meanwhile.

    A trial cannot be deleted in Optuna: it is claimed, marked and failed. A removed run can be queued again.
    """
    removed = []
    with queue.locked():
        for entry in entries:
            if (taken := queue.try_to_claim(entry)) is not None:
                trial_id = taken.trial._trial_id
                queue.storage.set_trial_user_attr(trial_id, REMOVED, True)  # first: a failed trial is owed a retry
                fail_trial(queue.storage, trial_id)
                removed.append(entry)
        gone = {entry.digest for entry in removed}
        tuned = queue.storage.get_study_user_attrs(queue.study_id).get(TUNING, {})
        if gone & tuned.keys():  # other seeds would wait for ever for a value that is not tried
            queue.study.set_user_attr(TUNING, {digest: run for digest, run in tuned.items() if digest not in gone})
    return removed
