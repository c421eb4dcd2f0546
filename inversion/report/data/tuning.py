"""Which value of the tuned parameters stands for each configuration, and what was tried before it was chosen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from inversion.metrics import counted
from inversion.report.data.study import ReportRun

Tuned = Mapping[str, tuple[str, str]]
"""Group and value of each run of a tuned configuration, by digest."""


@dataclass(frozen=True)
class Trial:
    """A value of the tuned parameters that was tried, with its validation PSNR in dB (NaN if it failed)."""

    parameters: Mapping[str, Any]
    validation: float

    def __str__(self) -> str:
        """``lr=0.001``; values are compared with others, and one alone is not written."""
        return ", ".join(f"{name}={value}" for name, value in self.parameters.items()) or "one value"


@dataclass(frozen=True)
class Choice:
    """How one configuration was tuned.

    Attributes:
        names: The tuned parameters.
        trials: Every value that was tried, in the order of the values; all with one seed.
        chosen: The one with the best validation PSNR.
        planned: Number of values that are to be tried; above that of ``trials``, the choice is preliminary.
    """

    names: tuple[str, ...]
    trials: Sequence[Trial]
    chosen: Trial
    planned: int

    @property
    def text(self) -> str:
        """The chosen values: ``lr=0.001``."""
        return str(self.chosen)

    @property
    def at_border(self) -> tuple[str, ...]:
        """The tuned parameters whose chosen number is the smallest or largest of those that were tried."""
        return tuple(name for name in self.names if self._is_extreme(name))

    def _is_extreme(self, name: str) -> bool:
        values = sorted({trial.parameters[name] for trial in self.trials
                         if isinstance(trial.parameters[name], int | float)})
        return len(values) > 1 and self.chosen.parameters[name] in (values[0], values[-1])


def choose(runs: Sequence[ReportRun], tuned: Tuned) -> tuple[list[ReportRun], dict[str, Choice]]:
    """The runs to rank, and the choice that each of those of a tuned configuration comes from, by digest.

    Of each tuned configuration, only the runs of the value with the best validation PSNR are ranked; the values are
    compared with the smallest seed. Test scores are not looked at.
    """
    groups: dict[str, dict[str, list[ReportRun]]] = {}
    kept = []
    for run in runs:
        if run.digest and run.digest in tuned and run.document:
            group, value = tuned[run.digest]
            groups.setdefault(group, {}).setdefault(value, []).append(run)
        else:
            kept.append(run)
    choices: dict[str, Choice] = {}
    for group, values in groups.items():
        seed = min(run.parameters["seed"] for members in values.values() for run in members)
        first = {value: run for value, members in values.items() for run in members if run.parameters["seed"] == seed}
        best = max(first, key=lambda value: _ordered(_validation(first[value])))
        names = _differing([run.parameters for run in first.values()])
        trials = sorted((Trial({name: run.parameters[name] for name in names}, _validation(run))
                         for run in first.values()), key=lambda trial: _sort_key(trial, names))
        mine = {name: first[best].parameters[name] for name in names}
        planned = len({value for other, value in tuned.values() if other == group})
        choice = Choice(names, trials, next(trial for trial in trials if trial.parameters == mine), planned)
        kept += values[best]
        choices |= {run.digest: choice for run in values[best] if run.digest}
    return kept, choices


def _validation(run: ReportRun) -> float:
    return float(counted(run.metrics.get("best/val_psnr", math.nan))) if run.status == "FINISHED" else math.nan


def _ordered(value: float) -> float:
    return -math.inf if math.isnan(value) else value


def _differing(parameters: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """The parameters that are not the same in all."""
    return tuple(name for name in parameters[0] if any(each.get(name) != parameters[0][name] for each in parameters))


def _sort_key(trial: Trial, names: Sequence[str]) -> tuple[tuple[int, float, str], ...]:
    """Numbers by size, texts alphabetically."""
    return tuple((0, float(value), "") if isinstance(value := trial.parameters[name], int | float)
                 else (1, 0.0, str(value)) for name in names)
