"""A search: what Optuna is to optimise, over which space, with which sampler and pruner. Optuna is imported late."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from inversion.config.run_config import RunConfig
from inversion.seeds import derive_seed
from inversion.sweeps.spec.engines import Engine
from inversion.sweeps.spec.values import checked

if TYPE_CHECKING:
    import optuna

Direction = Literal["maximize", "minimize"]

BEST_PSNR = "best/val_psnr"
METRICS: dict[str, Direction] = {
    BEST_PSNR: "maximize", "best/val_loss": "minimize", "val/loss": "minimize", "val/mse": "minimize",
    "val/lpips": "minimize", "val/psnr": "maximize", "val/ssim": "maximize",
}
"""What a search may optimise, and which way is better. A metric by epoch counts at the best epoch."""


class _Plain(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Choices(_Plain):
    """One of several texts."""

    type: Literal["categorical"] = "categorical"
    choices: tuple[str, ...]

    def ends(self) -> tuple[str, ...]:
        """The values to try when it is checked what goes together: all."""
        return self.choices

    def distribution(self) -> optuna.distributions.BaseDistribution:
        """The same for Optuna."""
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(self.choices)

    def __str__(self) -> str:
        return ", ".join(self.choices)


class FloatRange(_Plain):
    """A number from ``low`` to ``high``, both included."""

    type: Literal["float"] = "float"
    low: float
    high: float
    log: bool = False
    step: float | None = None

    def ends(self) -> tuple[float, float]:
        """The values to try when it is checked what goes together."""
        return self.low, self.high

    def distribution(self) -> optuna.distributions.BaseDistribution:
        """The same for Optuna."""
        from optuna.distributions import FloatDistribution

        return FloatDistribution(self.low, self.high, log=self.log, step=self.step)

    def __str__(self) -> str:
        return _range(self.low, self.high, self.log, self.step)


class IntRange(_Plain):
    """A whole number from ``low`` to ``high``, both included."""

    type: Literal["int"] = "int"
    low: int
    high: int
    log: bool = False
    step: int | None = None

    def ends(self) -> tuple[int, int]:
        """The values to try when it is checked what goes together."""
        return self.low, self.high

    def distribution(self) -> optuna.distributions.BaseDistribution:
        """The same for Optuna."""
        from optuna.distributions import IntDistribution

        return IntDistribution(self.low, self.high, log=self.log, step=self.step or 1)

    def __str__(self) -> str:
        return _range(self.low, self.high, self.log, self.step)


Distribution = Annotated[Choices | FloatRange | IntRange, Field(discriminator="type")]


def _range(low: float, high: float, log: bool, step: float | None) -> str:
    return f"{low} to {high}" + (", logarithmic" if log else "") + (f", in steps of {step}" if step else "")


class Search(_Plain):
    """A checked ``search`` section. Equal searches behave the same; the study keeps it for workers that join."""

    metric: str
    direction: Direction
    trials: int
    seed: int
    sampler: Engine
    pruner: Engine
    space: dict[str, Distribution]

    def to_json(self) -> dict[str, Any]:
        """Plain data that JSON can hold."""
        return self.model_dump(mode="json")

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Search:
        """The search that ``to_json`` gave."""
        return cls.model_validate(data)

    def make_sampler(self, number: int) -> optuna.samplers.BaseSampler:
        """A fresh sampler for one trial.

        Its chance depends on the trial's number, and it remembers nothing of earlier trials but what the study holds:
        so what is suggested depends on the history alone, and not on which worker asks.
        """
        from optuna import samplers
        from optuna.exceptions import ExperimentalWarning

        kinds: dict[str, Any] = {"tpe": samplers.TPESampler, "random": samplers.RandomSampler,
                                 "gp": samplers.GPSampler, "cmaes": samplers.CmaEsSampler}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # an option that the spec names is wanted
            sampler: optuna.samplers.BaseSampler = kinds[self.sampler.name](
                seed=derive_seed(self.seed, "trial", number) % 2**32, **self.sampler.options)
        return sampler

    def make_pruner(self) -> optuna.pruners.BasePruner:
        """The pruner, which is to be told of ``reported()`` at each epoch."""
        from optuna import pruners

        kinds: dict[str, Any] = {"none": pruners.NopPruner, "median": pruners.MedianPruner,
                                 "hyperband": pruners.HyperbandPruner}
        pruner: optuna.pruners.BasePruner = kinds[self.pruner.name](**self.pruner.options)
        return pruner

    def distributions(self) -> dict[str, optuna.distributions.BaseDistribution]:
        """The space for Optuna, by name: the order in a file must not decide which random number goes where."""
        return {name: self.space[name].distribution() for name in sorted(self.space)}

    def ends(self) -> dict[str, Any]:
        """A value of each parameter of the space, to try what goes together with all of them."""
        return {name: distribution.ends()[0] for name, distribution in self.space.items()}

    def configure(self, base: Mapping[str, str], values: Mapping[str, Any]) -> RunConfig:
        """The checked configuration of a trial: the base with the values that were suggested.

        Raises:
            RequestError: values that do not go together.
        """
        return checked({**base, **values})

    def reported(self) -> str:
        """The metric by epoch that belongs to the optimised one, so that the pruner looks the study's way."""
        return self.metric.replace("best/val_", "val/")
