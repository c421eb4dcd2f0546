"""The trials of a search, ranked by its objective, which is a validation metric; test scores rank nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import Any

from inversion.models.encoders.catalog import ENSEMBLE
from inversion.objectives import Objective
from inversion.text import number

FINISHED = "finished"

FORM = "#.3g"
"""How a searched number that is not whole is shown: with three significant digits."""

NEAR = 0.05
"""A value in this first or last part of its range is at the border."""

ENSEMBLE_NAME = "+".join(map(str, ENSEMBLE))


@dataclass(frozen=True)
class Range:
    """The ends of a searched number."""

    low: float
    high: float
    log: bool = False

    def is_at_border(self, value: float) -> bool:
        """Whether a value is in the first or last twentieth of the range, on its own scale."""
        low, high, at = (math.log(end) for end in (self.low, self.high, value)) if self.log else (
            self.low, self.high, value)
        return not NEAR <= (at - low) / (high - low) <= 1 - NEAR


@dataclass(frozen=True)
class Trial:
    """One trial of a search.

    Attributes:
        number: Its number in the search, from 0.
        name: The name of its run.
        state: ``finished``, ``pruned``, ``failed`` …; only a finished trial has a place.
        value: The objective; None if the trial has none.
        parameters: The searched parameters by name.
        run_id: Its run in MLflow.
        why: Why it is not finished.
        scores: Metrics of its run by name; the test scores among them are shown of the best trial only.
    """

    number: int
    name: str
    state: str
    value: float | None
    parameters: Mapping[str, Any]
    run_id: str | None = None
    why: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_ranked(self) -> bool:
        """Whether it is finished with a finite objective."""
        return self.state == FINISHED and self.value is not None and math.isfinite(self.value)

    @property
    def described(self) -> str:
        """``trial 7 (decoder=wavelet, lr=0.00123)``."""
        values = ", ".join(f"{name}={shown_value(name, value)}" for name, value in self.parameters.items())
        return f"trial {self.number} ({values})" if values else f"trial {self.number}"


@dataclass(frozen=True)
class Search:
    """What a search has found so far.

    Attributes:
        objective: What its trials are ranked by.
        names: The searched parameters.
        trials: Every trial that has started, by number.
        ranges: The ends of searched numbers.
    """

    objective: Objective
    names: tuple[str, ...]
    trials: Sequence[Trial]
    ranges: Mapping[str, Range] = field(default_factory=dict)

    @cached_property
    def ranked(self) -> list[Trial]:
        """The finished trials, the best first; of equal ones, the earlier first.

        Trials that share a run, because the sampler suggested the same values twice, have one place: the first one's.
        """
        once: dict[str, Trial] = {}
        for trial in sorted(filter(lambda trial: trial.is_ranked, self.trials), key=lambda trial: trial.number):
            once.setdefault(trial.run_id or f"trial {trial.number}", trial)
        return sorted(once.values(), key=lambda trial: (-self.objective.lead(trial.value or 0.0, 0.0), trial.number))

    @cached_property
    def unranked(self) -> list[Trial]:
        """The trials that are not finished: pruned, failed, running …"""
        return [trial for trial in self.trials if not trial.is_ranked]

    @property
    def best(self) -> Trial | None:
        """The best finished trial; None while there is none."""
        return self.ranked[0] if self.ranked else None

    @property
    def title(self) -> str:
        """``by best/val_psnr (higher is better)``."""
        return f"by {self.objective.metric} ({self.objective.better} is better)"

    def best_so_far(self) -> list[tuple[int, float]]:
        """Number and value of the best trial among each finished one and those before it."""
        done = sorted(self.ranked, key=lambda trial: trial.number)
        take = max if self.objective.direction == "maximize" else min
        return list(zip((trial.number for trial in done), accumulate((trial.value or 0.0 for trial in done), take),
                        strict=True))

    def at_border(self, trial: Trial) -> list[str]:
        """The parameters of a trial that are at the border of their range."""
        return [name for name, values in self.ranges.items()
                if isinstance(trial.parameters.get(name), int | float) and values.is_at_border(trial.parameters[name])]


def shown_value(name: str, value: Any) -> str:
    """The value of a searched parameter: three significant digits of a number that is not whole."""
    if isinstance(value, float):
        return number(value, FORM).removesuffix(".")
    if isinstance(value, bool):
        return str(value).lower()
    return "ensemble" if name == "encoder" and value == ENSEMBLE_NAME else str(value)
