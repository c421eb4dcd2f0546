"""Optuna's samplers and pruners that a search may name, and the options of each that a text can give.

Options that Optuna has deprecated, and those that take objects (callables, other samplers, trials), are left out; what
is not set keeps Optuna's own default. A model for each, so that an option is checked before anything starts and
without importing Optuna.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from inversion.config.run_config import MOST, Count, Limit
from inversion.sweeps.spec.sections import Settings

HELD = 10_000
"""Most candidates that are held in memory together."""


class Engine(BaseModel):
    """A sampler or pruner by name, with the options that were set."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    options: dict[str, bool | int] = {}

    def __str__(self) -> str:
        options = ", ".join(f"{name}={str(value).lower()}" for name, value in self.options.items())
        return f"{self.name} ({options})" if options else self.name


class NoOptions(Settings):
    """An engine without options."""


class TPEOptions(Settings):
    """Tree-structured Parzen estimator."""

    n_startup_trials: Limit = 10
    n_ei_candidates: Annotated[int, Field(ge=1, le=HELD)] = 24
    multivariate: bool = False
    group: bool = False
    constant_liar: bool = True

    @model_validator(mode="after")
    def _group_needs_multivariate(self) -> TPEOptions:
        if self.group and not self.multivariate:
            raise ValueError("group: true needs multivariate: true")
        return self


class GPOptions(Settings):
    """Gaussian process."""

    n_startup_trials: Limit = 10
    deterministic_objective: bool = False


class CmaEsOptions(Settings):
    """Covariance matrix adaptation."""

    n_startup_trials: Limit = 1
    consider_pruned_trials: bool = False
    popsize: Annotated[int, Field(ge=2, le=HELD)] | None = None
    use_separable_cma: bool = False
    with_margin: bool = False
    lr_adapt: bool = False

    @model_validator(mode="after")
    def _one_variant_at_a_time(self) -> CmaEsOptions:
        if self.use_separable_cma + self.with_margin + self.lr_adapt > 1:
            raise ValueError("only one of use_separable_cma, with_margin and lr_adapt can be true")
        return self


class MedianOptions(Settings):
    """Stops a trial that is worse than the median of the others at the same epoch."""

    n_startup_trials: Limit = 5
    n_warmup_steps: Limit = 0
    interval_steps: Count = 1
    n_min_trials: Count = 1


class HyperbandOptions(Settings):
    """Successive halving with several budgets of epochs; ``auto`` is the most epochs that a trial can have."""

    min_resource: Count = 1
    max_resource: Count | None = None
    reduction_factor: Annotated[int, Field(ge=2, le=MOST)] = 3
    bootstrap_count: Limit = 0

    @field_validator("max_resource", mode="before")
    @classmethod
    def _auto_is_unset(cls, value: str) -> str | None:
        return None if value == "auto" else value


SAMPLERS: dict[str, type[Settings]] = {
    "tpe": TPEOptions, "random": NoOptions, "gp": GPOptions, "cmaes": CmaEsOptions,
}
PRUNERS: dict[str, type[Settings]] = {"none": NoOptions, "median": MedianOptions, "hyperband": HyperbandOptions}
