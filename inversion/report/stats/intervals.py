"""Confidence intervals of means from Student's t distribution."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats  # type: ignore[import-untyped]

from inversion.report.stats.pools import Array, SeedPool
from inversion.report.stats.seed_noise import SeedNoise

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A closed interval."""

    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True)
class Estimate:
    """A mean with its standard error and the degrees of freedom of that error."""

    mean: float
    error: float
    freedom: float

    def interval(self, level: float = LEVEL) -> Interval | None:
        """The interval at a confidence level; None without degrees of freedom, as for a single image.

        Raises:
            ValueError: a level outside (0, 1).
        """
        if not 0 < level < 1:
            raise ValueError(f"the level of an interval must be between 0 and 1, got {level}")
        if self.freedom < 1:
            return None
        half = float(stats.t.ppf((1 + level) / 2, self.freedom)) * self.error
        return Interval(self.mean - half, self.mean + half)

    @property
    def p(self) -> float:
        """Two-sided p of the hypothesis that the mean is 0; 1 without degrees of freedom."""
        if self.freedom < 1 or self.mean == 0:
            return 1.0
        return float(2 * stats.t.sf(abs(self.mean) / self.error, self.freedom)) if self.error else 0.0


def estimate(values: Array, seed_variance: float, noise: SeedNoise | None) -> Estimate:
    """The mean of per-image values ``(images,)`` as an estimate for other images and, with ``noise``, other trainings.

    ``seed_variance`` is the squared standard error due to the seeds. The variances of images and of seeds have
    different degrees of freedom; the smaller number is used, which is conservative (Mickey and Brown, 1966).
    """
    freedom = len(values) - 1.0
    if noise is not None:
        freedom = min(freedom, noise.freedom)
    return Estimate(float(values.mean()), math.sqrt(variance_of_mean(values) + seed_variance), freedom)


def pool_interval(pool: SeedPool, noise: SeedNoise | None = None, level: float = LEVEL) -> Interval | None:
    """The interval of a configuration's mean score; None for a single image.

    Without ``noise``, it holds for other images and these trained networks.

    Raises:
        ValueError: a level outside (0, 1).
    """
    seed_variance = noise.variance_of_mean(pool) if noise else 0.0
    return estimate(pool.values.mean(axis=1), seed_variance, noise).interval(level)


def variance_of_mean(values: Array) -> float:
    """Squared standard error of the mean; 0 for a single value, and for values that differ by rounding only."""
    spread = float(np.ptp(values))
    rounding = 1e-12 * float(np.abs(values).max())
    return float(values.var(ddof=1)) / len(values) if len(values) > 1 and spread > rounding else 0.0
