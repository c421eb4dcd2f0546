"""Tuning in the queue: which values of a configuration have been tried, and which one gets the other seeds.

The runs of all values and seeds are queued at once. Of each configuration, the runs with the first seed are done first;
the value with the best validation score is chosen; then the other seeds of that value are done, and those of the other
values are pruned as not chosen. Test scores are never looked at.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from inversion.sweeps.queue.entry import Entry

TUNING = "tuning"
"""Attribute of the Optuna study: its tuned runs by digest."""

Stage = Literal["free", "held", "unchosen"]


@dataclass(frozen=True)
class TunedRun:
    """A run of a tuned configuration.

    Attributes:
        group: Equal for all values and seeds of one configuration.
        value: Equal for all seeds of one value of the tuned parameters.
        seed: Its seed.
    """

    group: str
    value: str
    seed: int


@dataclass(frozen=True)
class Tuning:
    """The tuned runs of a study by digest, and what has been chosen so far."""

    runs: Mapping[str, TunedRun] = field(default_factory=dict)
    chosen: Mapping[str, str | None] = field(default_factory=dict)
    """The chosen value of each decided group; None if every value failed."""

    def stage(self, entry: Entry) -> Stage:
        """Whether a run can be done now, has to wait for the choice, or is of a value that was not chosen."""
        run = self.runs.get(entry.digest or "")
        if run is None or run.seed == self.first_seed(run.group):
            return "free"
        if run.group not in self.chosen:
            return "held"
        return "free" if self.chosen[run.group] == run.value else "unchosen"

    def first_seed(self, group: str) -> int:
        """The seed with which the values of a configuration are tried."""
        return min(run.seed for run in self.runs.values() if run.group == group)

    def share(self, entry: Entry) -> float:
        """The probability that a waiting run will be done: one value of several is chosen."""
        run = self.runs.get(entry.digest or "")
        if run is None or self.stage(entry) == "free":
            return 1.0
        return 1 / len({other.value for other in self.runs.values() if other.group == run.group})


def read_tuning(attributes: Mapping[str, Any], entries: Iterable[Entry]) -> Tuning:
    """The tuning of a study with these attributes and runs."""
    runs = {digest: TunedRun(**run) for digest, run in attributes.get(TUNING, {}).items()}
    if not runs:
        return Tuning()
    first: dict[str, int] = {}
    for run in runs.values():
        first[run.group] = min(first.get(run.group, run.seed), run.seed)
    tried: dict[str, dict[str, Entry]] = {}
    for entry in entries:
        known = runs.get(entry.digest or "")
        if known and known.seed == first[known.group]:
            tried.setdefault(known.group, {})[known.value] = entry
    chosen = {group: _best(values) for group, values in tried.items()
              if not any(entry.is_open for entry in values.values())}
    return Tuning(runs, chosen)


def as_attribute(runs: Mapping[str, TunedRun]) -> dict[str, dict[str, Any]]:
    """The runs as an attribute of the Optuna study."""
    return {digest: asdict(run) for digest, run in runs.items()}


def _best(values: Mapping[str, Entry]) -> str | None:
    """The value with the best validation score among those whose run is finished."""
    scores = {value: entry.trial.value for value, entry in values.items() if entry.state == "finished"}
    known = {value: score for value, score in scores.items() if score is not None and not math.isnan(score)}
    return max(known, key=lambda value: known[value]) if known else None
