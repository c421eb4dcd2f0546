"""Seed noise: how much the mean score of a configuration varies from training to training.

One configuration with three seeds says little about it: the standard deviation of three values is known to a factor of
two. The configurations of a study vary by similar amounts, so their variances are pooled. A configuration that varies
more than the pool counts with its own variance. One with fewer seeds than those that the pool is from may be noisier
without showing it: it counts as if one more training had shown twice the pooled standard deviation
(``benchmarks/error_rates.py`` measures what this is good for).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from inversion.report.stats.pools import SeedPool

NOISIER = 2.0
"""How many times as noisy as the pool a configuration with few seeds is allowed for: the error rates hold up to it."""

FEW_SEEDS = ("A configuration with fewer seeds than most may be noisier than these show: it counts as if one more "
             f"training had shown {NOISIER:g} times the seed noise.")


@dataclass(frozen=True)
class SeedNoise:
    """Standard deviation of a mean score between trainings of one configuration.

    Attributes:
        sd: The standard deviation, in the unit of the score (dB for PSNR).
        freedom: Degrees of freedom of ``sd``; infinite if it was given.
        configurations: Number of configurations with several seeds that it was measured on; 0 if it was given.
        largest: The largest standard deviation of these configurations.
        seeds: Number of seeds that most of the pooled variance is from; 0 if it was given.
    """

    sd: float
    freedom: float = math.inf
    configurations: int = 0
    largest: float = 0.0
    seeds: int = 0

    def variance_of_mean(self, pool: SeedPool) -> float:
        """Squared standard error of a configuration's mean due to its seeds."""
        return self.variance_of_training(pool) / pool.n

    def variance_of_training(self, pool: SeedPool) -> float:
        """Variance of the mean score of one training: pooled, or the configuration's own if that is larger.

        That of a configuration with few seeds is at least what its own trainings and one more, of ``NOISIER`` times the
        pooled standard deviation, would show; with one seed, it is at least the largest of all. That of what is not
        trained is 0.
        """
        if not pool.is_trained:
            return 0.0
        pooled = self.sd**2
        own = pooled if pool.spread is None else pool.spread**2
        doubted = ((pool.n - 1) * own + NOISIER**2 * pooled) / pool.n if self.has_few_seeds(pool) else 0.0
        return max(pooled, own, doubted, self.largest**2 if pool.n == 1 else 0.0)

    def has_few_seeds(self, pool: SeedPool) -> bool:
        """Whether a configuration has fewer seeds than those that the noise was measured on."""
        return pool.is_trained and pool.n < self.seeds

    def planned(self, pools: Sequence[SeedPool]) -> SeedNoise:
        """The same noise as if it had been measured on these pools, with the seeds that they are reckoned with."""
        freedom = sum(pool.n - 1 for pool in pools)
        return replace(self, freedom=float(freedom), seeds=_typical([pool.n for pool in pools]))


def describe_noise(noise: SeedNoise) -> str:
    """``seed noise 0.12 dB, measured on 6 configurations``."""
    if not noise.configurations:
        return f"seed noise {noise.sd:.2f} dB, given"
    plural = "" if noise.configurations == 1 else "s"
    return f"seed noise {noise.sd:.2f} dB, measured on {noise.configurations} configuration{plural}"


def measure_seed_noise(pools: Iterable[SeedPool]) -> SeedNoise | None:
    """Pools the variances of all configurations with several seeds; None if there are none."""
    several = [pool for pool in pools if pool.n > 1]
    freedom = sum(pool.n - 1 for pool in several)
    if not freedom:
        return None
    squares = sum((pool.n - 1) * (pool.spread or 0.0) ** 2 for pool in several)
    return SeedNoise(math.sqrt(squares / freedom), float(freedom), len(several),
                     max(pool.spread or 0.0 for pool in several), _typical([pool.n for pool in several]))


def _typical(counts: Sequence[int]) -> int:
    """The mean number of seeds, weighted by degrees of freedom, rounded; 0 if none has several."""
    freedom = sum(count - 1 for count in counts)
    return math.floor(sum(count * (count - 1) for count in counts) / freedom + 0.5) if freedom else 0
