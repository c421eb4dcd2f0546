"""A study at a moment, for tables and lines: what is queued, running, finished and failed, and the time left."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from inversion.sweeps.queue.entry import Entry, State

STATES: tuple[State, ...] = ("queued", "interrupted", "running", "finished", "pruned", "failed", "deleted")


@dataclass(frozen=True)
class Snapshot:
    """The runs of a study, by state, as they stood ``at`` a time."""

    entries: Sequence[Entry]
    at: datetime

    def without(self, deleted: Collection[Entry]) -> Snapshot:
        """The same, where these finished runs were deleted in MLflow."""
        trials = {entry.trial._trial_id for entry in deleted}
        return Snapshot([replace(entry, is_deleted=entry.trial._trial_id in trials) for entry in self.entries], self.at)

    def having(self, *states: State) -> list[Entry]:
        """The runs in these states, in the order of their queueing."""
        return [entry for entry in self.entries if entry.state in states]

    @property
    def counts(self) -> dict[State, int]:
        """How many runs are in each state; states without any are left out."""
        numbers = {state: len(self.having(state)) for state in STATES}
        return {state: number for state, number in numbers.items() if number}

    @property
    def is_done(self) -> bool:
        """Whether no run of the study has work left."""
        return not any(entry.is_open for entry in self.entries)

    def time_left(self, workers: int) -> timedelta | None:
        """An estimate from the runs that are finished; None while there are none."""
        seconds = [duration(entry.trial.datetime_start, entry.trial.datetime_complete)
                   for entry in self.having("finished")]
        if not seconds:
            return None
        mean = sum(seconds) / len(seconds)
        waiting = mean * len(self.having("queued", "interrupted"))
        running = [max(0.0, mean - duration(entry.trial.datetime_start, self.at)) for entry in self.having("running")]
        busy = max(1, workers, len(running))
        return timedelta(seconds=round(max([(waiting + sum(running)) / busy, *running])))


def duration(start: datetime | None, end: datetime | None) -> float:
    """Seconds between two times of a trial; 0 where one of them is not known."""
    return (end - start).total_seconds() if start and end else 0.0


def epoch_of(entry: Entry) -> int:
    """The last epoch that was reported."""
    step = entry.trial.last_step
    return 0 if step is None else step


def latest_value(entry: Entry) -> float | None:
    """The metric of the last epoch that was reported."""
    return entry.trial.intermediate_values.get(epoch_of(entry))
