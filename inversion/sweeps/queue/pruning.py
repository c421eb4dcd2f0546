"""Early stopping across a grid: which runs a pruner may stop, with which they compete, and who waits for that.

Only one run of each configuration competes, that of the seed that was queued first. Its other seeds wait until it has
ended; they are trained to the end, or, if it was pruned, not at all. A pruner that stopped single seeds would leave the
lucky ones, whose mean is too high.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import optuna
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial, TrialState

from inversion.sweeps.queue.entry import COMPETITOR, TO_THE_END, Entry

PRUNER = "pruner"
"""Attribute of the Optuna study of a grid: name and options of its pruner; None after a request without one. That of a
search is stored with the search."""

Stage = Literal["free", "held", "lost"]


@dataclass(frozen=True)
class Competitor:
    """A run of a grid, as one that competes.

    Attributes:
        group: Equal for runs whose validation scores can be compared.
        configuration: Equal for the seeds of one configuration.
    """

    group: str
    configuration: str


class Contest:
    """The runs of a grid whose pruner is on. Runs that earlier versions have queued take no part.

    Args:
        entries: The runs of the study.
        tuned: The digests of its tuned runs, which take no part either: a choice is between whole runs.
    """

    def __init__(self, entries: Iterable[Entry], tuned: Collection[str] = ()) -> None:
        self._seeds: dict[str, list[Entry]] = {}
        self._competitors: dict[int, Competitor] = {}
        for entry in sorted(entries, key=lambda entry: entry.root):
            if entry.digest not in tuned and (known := entry.trial.user_attrs.get(COMPETITOR)):
                self._competitors[entry.root] = competitor = Competitor(**known)
                self._seeds.setdefault(competitor.configuration, []).append(entry)

    def first(self, entry: Entry) -> Entry:
        """The run that decides on the configuration of this one; the run itself if it takes no part."""
        competitor = self._competitors.get(entry.root)
        return self._seeds[competitor.configuration][0] if competitor else entry

    def competes(self, entry: Entry) -> bool:
        """Whether the pruner may stop a run. Not if another seed of its configuration has begun: the mean over seeds
        would lack the worst.
        """
        competitor = self._competitors.get(entry.root)
        if competitor is None or TO_THE_END in entry.trial.user_attrs:
            return False
        first, *others = self._seeds[competitor.configuration]
        return first.root == entry.root and all(other.state in ("queued", "pruned") for other in others)

    def stage(self, entry: Entry) -> Stage:
        """Whether a waiting run can be done now, waits for the first seed, or has lost with it."""
        first = self.first(entry)
        if first.root == entry.root or TO_THE_END in entry.trial.user_attrs:
            return "free"
        if first.state == "pruned":
            return "lost"
        return "held" if first.is_open and self.competes(first) else "free"

    def rivals(self, entry: Entry) -> list[Entry]:
        """The deciding runs that can be compared with this one, itself included."""
        group = self._competitors[entry.root].group
        return [first for first, *_ in self._seeds.values() if self._competitors[first.root].group == group]


def should_prune(pruner: BasePruner, study: optuna.Study, rivals: Sequence[Entry], entry: Entry
                 ) -> tuple[bool, dict[str, Any]]:
    """Asks one of Optuna's pruners, which sees one trial for each run, with the number of the run.

    In the study itself, a run that was given back, or done again, has several trials. Hyperband takes a bracket from
    the number, which must not change when a run is resumed.

    Args:
        pruner: The pruner.
        study: The Optuna study.
        rivals: The runs that it compares, with ``entry`` among them.
        entry: The run, whose last epoch was reported.

    Returns:
        Whether to stop the run, and the system attributes with which the pruner marked its trial.
    """
    trials = {rival.root: _seen(rival.trial) for rival in rivals if rival.trial.intermediate_values}
    if entry.root not in trials:
        return False, {}
    trials[entry.root] = _seen(_undecided(entry.trial))
    view = optuna.create_study(study_name=study.study_name, direction=study.direction)
    absent = optuna.create_trial(state=TrialState.FAIL)
    view.add_trials([trials.get(number, absent) for number in range(max(trials) + 1)])
    stops = bool(pruner.prune(view, view.get_trials()[entry.root]))
    marks = view.get_trials()[entry.root].system_attrs
    return stops, {key: value for key, value in marks.items() if key not in entry.trial.system_attrs}


def _undecided(trial: FrozenTrial) -> FrozenTrial:
    """A trial without the marks of its last epoch: a worker may have been killed after its pruner had decided."""
    last = trial.intermediate_values[trial.last_step or 0]
    undecided = copy.copy(trial)
    undecided.system_attrs = {key: value for key, value in trial.system_attrs.items()
                              if not (isinstance(value, float) and value == last)}
    return undecided


def _seen(trial: FrozenTrial) -> FrozenTrial:
    """What a pruner looks at."""
    return optuna.create_trial(state=trial.state, value=trial.value, intermediate_values=trial.intermediate_values,
                               system_attrs=trial.system_attrs)
