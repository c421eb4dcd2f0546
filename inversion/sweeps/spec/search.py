"""A search: what Optuna optimises, over which space, with which sampler and pruner. Optuna is imported late."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from inversion.config.parts import parts_in
from inversion.config.run_config import RunConfig
from inversion.objectives import Direction
from inversion.seeds import derive_seed
from inversion.sweeps.spec.grid import checked_config

if TYPE_CHECKING:
    import optuna

SAMPLERS = {"tpe": "TPESampler", "random": "RandomSampler", "gp": "GPSampler", "cmaes": "CmaEsSampler"}
PRUNERS = {"none": "NopPruner", "median": "MedianPruner", "successive_halving": "SuccessiveHalvingPruner",
           "hyperband": "HyperbandPruner"}
"""The names in a spec of classes in ``optuna.samplers`` and ``optuna.pruners``; their options are Optuna's own."""


class _Plain(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Algorithm(_Plain):
    """A sampler or pruner by name, with the options that were set; Optuna's defaults hold for the others."""

    name: str
    options: dict[str, bool | int] = {}

    def __str__(self) -> str:
        options = ", ".join(f"{name}={str(value).lower()}" for name, value in self.options.items())
        return f"{self.name} ({options})" if options else self.name


class Choices(_Plain):
    """One of several texts."""

    type: Literal["categorical"] = "categorical"
    choices: tuple[str, ...]

    def extremes(self) -> tuple[str, ...]:
        """The values with which combinations are checked: all."""
        return self.choices

    def __str__(self) -> str:
        return ", ".join(self.choices)


class FloatRange(_Plain):
    """A number from ``low`` to ``high``, both included."""

    type: Literal["float"] = "float"
    low: float
    high: float
    log: bool = False
    step: float | None = None

    def extremes(self) -> tuple[float, float]:
        """The values with which combinations are checked."""
        return self.low, self.high

    def __str__(self) -> str:
        return (f"{self.low} to {self.high}{', logarithmic' if self.log else ''}"
                f"{f', in steps of {self.step}' if self.step else ''}")


class IntRange(FloatRange):
    """A whole number from ``low`` to ``high``, both included."""

    type: Literal["int"] = "int"  # type: ignore[assignment]
    low: int
    high: int
    step: int | None = None


Distribution = Annotated[Choices | FloatRange | IntRange, Field(discriminator="type")]


class Search(_Plain):
    """A checked ``search`` section. Equal searches behave the same; the study stores it for workers that join."""

    metric: str
    direction: Direction
    trials: int
    seed: int
    sampler: Algorithm
    pruner: Algorithm
    space: dict[str, Distribution]

    def to_json(self) -> dict[str, Any]:
        """Plain data that JSON can hold."""
        return self.model_dump(mode="json")

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Search:
        """The inverse of ``to_json``."""
        return cls.model_validate(data)

    def make_sampler(self, number: int) -> optuna.samplers.BaseSampler:
        """A fresh sampler for the trial of this number.

        It is seeded with the trial's number and knows of earlier trials only what the study holds. So its suggestions
        depend on the history alone, and not on which worker asks.
        """
        from optuna import samplers
        from optuna.exceptions import ExperimentalWarning

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # the spec asks for the option by name
            sampler: optuna.samplers.BaseSampler = getattr(samplers, SAMPLERS[self.sampler.name])(
                seed=derive_seed(self.seed, "trial", number) % 2**32, **self.sampler.options)
        return sampler

    def make_pruner(self) -> optuna.pruners.BasePruner:
        """The pruner, to which ``reported_metric`` is to be reported at each epoch."""
        return make_pruner(self.pruner)

    def distributions(self) -> dict[str, optuna.distributions.BaseDistribution]:
        """The space for Optuna."""
        return optuna_distributions(self.space)

    def example(self) -> dict[str, Any]:
        """A value of each parameter of the space."""
        return {name: distribution.extremes()[0] for name, distribution in self.space.items()}

    @property
    def parts(self) -> set[str]:
        """The names of the parts among the choices."""
        return {name for parameter, choices in self.space.items() if isinstance(choices, Choices)
                for choice in choices.choices for name in parts_in({parameter: choice})}

    def configure(self, base: Mapping[str, str], values: Mapping[str, Any]) -> RunConfig:
        """The checked configuration of a trial: the base with the suggested values.

        Raises:
            RequestError: values that do not go together.
        """
        return checked_config({**base, **values})

    def reported_metric(self) -> str:
        """The metric by epoch that belongs to the optimised one, so that pruner and study have the same direction."""
        return self.metric.replace("best/val_", "val/")


def make_pruner(algorithm: Algorithm, epochs: int | None = None) -> optuna.pruners.BasePruner:
    """One of Optuna's pruners, for runs of at most so many epochs: Hyperband has to know, unless its options say it."""
    from optuna import pruners

    options = dict(algorithm.options)
    if algorithm.name == "hyperband" and epochs is not None:
        options = {"max_resource": epochs} | options
    pruner: optuna.pruners.BasePruner = getattr(pruners, PRUNERS[algorithm.name])(**options)
    return pruner


def optuna_distributions(space: Mapping[str, Distribution]) -> dict[str, optuna.distributions.BaseDistribution]:
    """A space for Optuna, sorted by name: the order in the file must not decide who gets which random number."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    def convert(values: Distribution) -> optuna.distributions.BaseDistribution:
        match values:
            case Choices():
                return CategoricalDistribution(values.choices)
            case IntRange():
                return IntDistribution(values.low, values.high, log=values.log, step=values.step or 1)
            case FloatRange():
                return FloatDistribution(values.low, values.high, log=values.log, step=values.step)

    return {name: convert(space[name]) for name in sorted(space)}
