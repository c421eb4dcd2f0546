"""The runs of a study that a user means by a number, a name, a pattern or the beginning of an id."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from inversion.errors import RequestError, SeveralErrors, UnknownNameError
from inversion.sweeps.queue.entry import Entry, Snapshot, State

LISTED = 10
BEGINNING = re.compile("[0-9a-f]{4,32}")


@dataclass(frozen=True)
class Change:
    """What an option does to some runs of a study, for the selection of these runs and its errors.

    Attributes:
        option: The option: ``remove``.
        states: The states of the runs that can be changed.
        called: What such a run is called: ``waiting``.
        done: What is then said of it: ``removed``.
        others: Why a run in another state is not changed, and what to do if that is meant. ``{run_id}`` stands for the
            id of its MLflow run.
    """

    option: str
    states: Sequence[State]
    called: str
    done: str
    others: Mapping[State, str]


def select(snapshot: Snapshot, patterns: Sequence[str], study: str, change: Change) -> tuple[list[Entry], list[Entry]]:
    """The runs to change, and those that a pattern matches too but that cannot be changed, each in queueing order.

    Raises:
        UnknownNameError: a pattern matches no run; the nearest names are suggested.
        RequestError: a pattern matches only runs that cannot be changed.
    """
    found: dict[int, Entry] = {}
    for pattern in patterns:
        matched = matching(snapshot, pattern)
        if not matched:
            known = snapshot.having(*change.states)
            if not known:
                raise RequestError(f"--{change.option} {pattern}: no run of study {study} is {change.called}")
            raise _unknown(snapshot, known, pattern, study)
        if not any(entry.state in change.states for entry in matched):
            raise RequestError(f"--{change.option} {pattern}: {_why_not(matched, snapshot, change)}")
        found |= {entry.root: entry for entry in matched}
    entries = [found[root] for root in sorted(found)]
    return ([entry for entry in entries if entry.state in change.states],
            [entry for entry in entries if entry.state not in change.states])


def select_one(snapshot: Snapshot, text: str, study: str) -> Entry:
    """The one run that is meant.

    Raises:
        UnknownNameError: there is none; the nearest names are suggested.
        SeveralErrors: there are several, which are listed with their numbers.
    """
    matched = matching(snapshot, text)
    if not matched:
        raise _unknown(snapshot, snapshot.entries, text, study)
    if len(matched) > 1:
        more = [f"and {len(matched) - LISTED} more"] if len(matched) > LISTED else []
        raise SeveralErrors([f"{len(matched)} runs of study {study} match {text!r}. Give one by its number:",
                             *(f"{entry.root:>4}  {snapshot.label(entry)}" for entry in matched[:LISTED]), *more])
    return matched[0]


def matching(snapshot: Snapshot, pattern: str) -> list[Entry]:
    """The runs with a number, a name, or 4 or more digits of an id, or that match a pattern such as ``*attention*``.

    A name may be followed by the parameters with which the run is shown.
    """
    found = [entry for entry in snapshot.entries if _matches(snapshot, entry, pattern)]
    if not found and BEGINNING.fullmatch(pattern):
        found = [entry for entry in snapshot.entries if (entry.run_id or "").startswith(pattern)]
    return found


def _matches(snapshot: Snapshot, entry: Entry, pattern: str) -> bool:
    if pattern.isdecimal():
        return entry.root == int(pattern)
    return any(text == pattern or fnmatchcase(text, pattern) for text in (entry.name, snapshot.label(entry)))


def _unknown(snapshot: Snapshot, entries: Sequence[Entry], pattern: str, study: str) -> UnknownNameError:
    known = list(dict.fromkeys(snapshot.label(entry) for entry in entries))
    nearest = difflib.get_close_matches(pattern, known, n=LISTED, cutoff=0)
    wider = f"*{pattern}*"
    meant = wider if any(fnmatchcase(name, wider) for name in known) else ""
    return UnknownNameError(f"study {study} has no run", pattern, nearest, meant)


def _why_not(matched: Sequence[Entry], snapshot: Snapshot, change: Change) -> str:
    if len(matched) > 1:
        counts = Snapshot(matched, snapshot.at).counts_text
        return (f"none of the {len(matched)} runs that match is {change.called} ({counts}), and only {change.called} "
                f"runs are {change.done}")
    entry, = matched
    why = change.others.get(entry.state, f"it is {entry.state}")
    return f"{snapshot.label(entry)} is not {change.done}, as {why.format(run_id=entry.run_id)}"
