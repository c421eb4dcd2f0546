"""The section ``tune`` of a spec: values that are tried for each configuration of a grid before its seeds are run."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from pydantic import Field

from inversion.sweeps.spec.grid import Block
from inversion.sweeps.spec.search import Choices, Distribution, optuna_distributions
from inversion.sweeps.spec.search_section import read_space
from inversion.sweeps.spec.source import ErrorCollector, Scalar, Section, Settings, Value, read_settings

DIGITS = 3
"""Significant digits of values that are drawn from a range."""


class _Budget(Settings):
    trials: int = Field(ge=2, le=200)


@dataclass(frozen=True)
class Tuning:
    """Values of one or more parameters; each configuration of the grid is run with each, with its first seed.

    Attributes:
        names: The parameters that are tuned.
        points: The values to try, one text for each parameter.
    """

    names: tuple[str, ...]
    points: tuple[Mapping[str, Scalar], ...]

    def apply(self, blocks: Sequence[Block]) -> list[Block]:
        """A block for each point and block of the grid."""
        return [replace(block, axes={**block.axes, **{name: (scalar,) for name, scalar in point.items()}})
                for block in blocks for point in self.points]


def read_tuning(value: Value, base: Mapping[str, Scalar], blocks: Sequence[Block], errors: ErrorCollector,
                ) -> Tuning | None:
    """The tuning; None if there are errors."""
    if not isinstance(value, Section) or not set(value.entries) - {"trials"}:
        errors.add(value.where, "tune is a mapping of parameters to lists or ranges, as in tune: {lr: [1e-4, 1e-3]}")
        return None
    names = [name for name in value.entries if name != "trials"]
    space = read_space(Section({name: value.entries[name] for name in names}, value.keys, value.where), base, errors,
                       "tune")
    for name in space:
        for block in blocks:
            if name in block.axes:
                errors.add(value.keys[name], f"{name} is an axis of the grid too, at {block.where}: a parameter is an "
                                             "axis or is tuned")
    budget = None
    if "trials" in value.entries:
        section = Section({"trials": value.entries["trials"]}, value.keys, value.where)
        budget = read_settings(_Budget, section, "tune", errors)
    ranges = [name for name, distribution in space.items() if not isinstance(distribution, Choices)]
    if ranges and "trials" not in value.entries:
        errors.add(value.keys[ranges[0]], f"{ranges[0]} is a range: give the number of values to try, as in trials: 8")
    elif "trials" in value.entries and space and not ranges:
        errors.add(value.keys["trials"], "trials is for ranges, and every parameter here has a list of values")
    if errors.lines or not space:
        return None
    drawn = _draw(space, budget.trials) if budget else _product(space)
    return Tuning(tuple(space), tuple({name: Scalar(text, value.keys[name]) for name, text in point.items()}
                                      for point in drawn))


def _product(space: Mapping[str, Distribution]) -> list[dict[str, str]]:
    lists = [[str(choice) for choice in values.choices] for values in space.values() if isinstance(values, Choices)]
    return [dict(zip(space, point, strict=True)) for point in product(*lists)]


def _draw(space: Mapping[str, Distribution], trials: int) -> list[dict[str, str]]:
    """Points that fill the space evenly (Optuna's quasi-Monte Carlo sampler); the same every time, without repeats."""
    import optuna
    from optuna.exceptions import ExperimentalWarning

    optuna.logging.set_verbosity(optuna.logging.WARNING)  # it logs every study that it creates
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        first = optuna.samplers.RandomSampler(seed=0)  # of the first point, from which the sampler learns the space
        study = optuna.create_study(sampler=optuna.samplers.QMCSampler(
            seed=0, scramble=True, independent_sampler=first, warn_independent_sampling=False))
        points = []
        for _ in range(trials):
            trial = study.ask(optuna_distributions(space))
            points.append(trial.params)
            study.tell(trial, 0.0)
    texts = [{name: _text(point[name]) for name in space} for point in points]
    return [dict(point) for point in dict.fromkeys(tuple(text.items()) for text in texts)]


def _text(value: Any) -> str:
    return f"{value:.{DIGITS}g}" if isinstance(value, float) else str(value)
