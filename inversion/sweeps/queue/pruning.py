"""Early stopping across a grid: which runs a pruner may stop, with which they compete, and who waits for that.

Only one run of each configuration competes, that of the seed that was queued first. Its other seeds wait until it has
ended; they are trained to the end, or, if it was pruned, not at all. A pruner that stopped single seeds would leave the
lucky ones, whose mean is too high.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, Literal

import optuna
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial, TrialState

from inversion.config.document import added_since
from inversion.objectives import COMPARABLE
from inversion.sweeps.queue.entry import DOCUMENT, TO_THE_END, Entry

PRUNER = "pruner"
"""Attribute of the Optuna study of a grid: name and options of its pruner; None after a request without one. That of a
search is stored with the search."""

ALIKE = (*COMPARABLE, "epochs")
"""Parameters that must be equal for two runs to compete."""

NO_CONFIGURATION = ("seed", "data_dir", "device", "threads", "strict")
"""Parameters that seeds and machines may change in one configuration."""

Key = tuple[tuple[str, str], ...]
Stage = Literal["free", "held", "lost"]


class Contest:
    """The runs of a grid whose pruner is on.

    Args:
        entries: The runs of the study.
        tuned: The digests of its tuned runs, which do not take part: a choice is between whole runs.
    """

    def __init__(self, entries: Iterable[Entry], tuned: Collection[str] = ()) -> None:
        self._seeds: dict[Key, list[Entry]] = {}
        self._keys: dict[int, Key] = {}
        for entry in sorted(entries, key=lambda entry: entry.root):
            if entry.digest not in tuned:
                self._keys[entry.root] = key = _key(entry)
                self._seeds.setdefault(key, []).append(entry)

    def first(self, entry: Entry) -> Entry:
        """The run that decides on the configuration of this one; the run itself if it takes no part."""
        key = self._keys.get(entry.root)
        return self._seeds[key][0] if key is not None else entry

    def competes(self, entry: Entry) -> bool:
        """Whether the pruner may stop a run. Not if another seed of its configuration has begun: the mean over seeds
        would lack the worst.
        """
        key = self._keys.get(entry.root)
        if key is None or TO_THE_END in entry.trial.user_attrs:
            return False
        first, *others = self._seeds[key]
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
        return [seeds[0] for seeds in self._seeds.values() if _alike(seeds[0]) == _alike(entry)]


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
    view = optuna.create_study(study_name=study.study_name, direction=study.direction)
    absent = optuna.create_trial(state=TrialState.FAIL)
    view.add_trials([trials.get(number, absent) for number in range(max(trials) + 1)])
    stops = bool(pruner.prune(view, view.get_trials()[entry.root]))
    marks = view.get_trials()[entry.root].system_attrs
    return stops, {key: value for key, value in marks.items() if key not in entry.trial.system_attrs}


def _seen(trial: FrozenTrial) -> FrozenTrial:
    """What a pruner looks at."""
    return optuna.create_trial(state=trial.state, value=trial.value, intermediate_values=trial.intermediate_values,
                               system_attrs=trial.system_attrs)


def _key(entry: Entry) -> Key:
    """Equal for the seeds of one configuration."""
    config = added_since(entry.trial.user_attrs.get(DOCUMENT, 1), entry.config)
    return tuple(sorted((name, str(value)) for name, value in config.items() if name not in NO_CONFIGURATION))


def _alike(entry: Entry) -> tuple[str, ...]:
    return tuple(str(entry.config.get(name)) for name in ALIKE)
