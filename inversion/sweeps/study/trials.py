"""The trials of a search as its queue has them, for the leaderboard."""

from __future__ import annotations

import math
from collections.abc import Sequence

from inversion.objectives import Objective
from inversion.report.data.searching import Range, Search, Trial
from inversion.sweeps.queue.entry import Entry
from inversion.sweeps.spec.search import FloatRange
from inversion.sweeps.spec.search import Search as Settings


def search_in(settings: Settings, entries: Sequence[Entry]) -> Search:
    """The trials that have started, with the values that the sampler suggested."""
    names = tuple(settings.space)
    ranges = {name: Range(values.low, values.high, values.log) for name, values in settings.space.items()
              if isinstance(values, FloatRange)}
    begun = [entry for entry in entries if entry.config or entry.trial.params]
    return Search(Objective(settings.metric, settings.direction), names,
                  [_trial(entry, names) for entry in begun], ranges)


def _trial(entry: Entry, names: Sequence[str]) -> Trial:
    values = {name: entry.config.get(name, entry.trial.params.get(name)) for name in names}
    known = {name: value for name, value in values.items() if value is not None}
    state, why = str(entry.state), ""
    if entry.state in ("failed", "stopped", "timed out", "pruned"):
        why = str(entry.trial.user_attrs.get("failure_message", ""))
    if entry.state == "failed":
        state = f"failed: {entry.trial.user_attrs.get('failure', 'error')}"
    return Trial(entry.root, entry.name, state, _value(entry), known, entry.run_id, why, entry.scores)


def _value(entry: Entry) -> float | None:
    """The objective of a finished trial; a pruned one has that of its last epoch in Optuna, which is no result."""
    if entry.state != "finished" or entry.trial.value is None or not math.isfinite(entry.trial.value):
        return None
    return float(entry.trial.value)
