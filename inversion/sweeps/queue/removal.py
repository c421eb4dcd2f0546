"""Removing runs from a queue before they are done, by number, name or pattern."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from fnmatch import fnmatchcase

from inversion.errors import RequestError, UnknownNameError
from inversion.sweeps.queue.entry import REMOVED, Entry, Snapshot, State
from inversion.sweeps.queue.queue import Queue
from inversion.sweeps.queue.recovery import fail_trial
from inversion.sweeps.queue.tuning import TUNING

LISTED = 10
WAITING: tuple[State, ...] = ("queued", "interrupted")
STAYS = {"running": "it is running: stop its worker first",
         "failed": "it has failed: --retry-failed runs it again",
         "finished": "it is finished, and its result is in MLflow: `mlflow runs delete --run-id {run_id}` deletes it"}
"""Why a run that is not waiting is not removed, and what to do if that is meant."""


def select_waiting(snapshot: Snapshot, patterns: Sequence[str], study: str) -> tuple[list[Entry], list[Entry]]:
    """The runs to remove, and those that a pattern matches too but that are not waiting, each in queueing order.

    A pattern is the number of a run, its name, or a pattern such as ``*attention*``; a name may be followed by the
    parameters with which it is shown.

    Raises:
        UnknownNameError: a pattern matches no run; the nearest names are suggested.
        RequestError: a pattern matches only runs that are not waiting.
    """
    found: dict[int, Entry] = {}
    for pattern in patterns:
        matched = [entry for entry in snapshot.entries if _matches(snapshot, entry, pattern)]
        if not matched:
            known = list(dict.fromkeys(snapshot.label(entry) for entry in snapshot.having(*WAITING)))
            if not known:
                raise RequestError(f"--remove {pattern}: no run of study {study} is waiting")
            nearest = difflib.get_close_matches(pattern, known, n=LISTED, cutoff=0)
            wider = f"*{pattern}*"
            meant = wider if any(fnmatchcase(name, wider) for name in known) else ""
            raise UnknownNameError(f"study {study} has no run", pattern, nearest, meant)
        if not any(entry.state in WAITING for entry in matched):
            raise RequestError(f"--remove {pattern}: {_why_not(matched, snapshot)}")
        found |= {entry.root: entry for entry in matched}
    entries = [found[root] for root in sorted(found)]
    return ([entry for entry in entries if entry.state in WAITING],
            [entry for entry in entries if entry.state not in WAITING])


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


def _matches(snapshot: Snapshot, entry: Entry, pattern: str) -> bool:
    if pattern.isdecimal():
        return entry.root == int(pattern)
    return any(text == pattern or fnmatchcase(text, pattern) for text in (entry.name, snapshot.label(entry)))


def _why_not(matched: Sequence[Entry], snapshot: Snapshot) -> str:
    if len(matched) > 1:
        counts = Snapshot(matched, snapshot.at).counts_text
        return f"none of the {len(matched)} runs that match is waiting ({counts}), and only waiting runs are removed"
    entry, = matched
    why = STAYS.get(entry.state, f"it is {entry.state}")
    return f"{snapshot.label(entry)} is not removed, as {why.format(run_id=entry.run_id)}"
