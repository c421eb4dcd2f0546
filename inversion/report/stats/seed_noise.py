"""Seed noise: how much the mean score of a configuration varies from training to training.

One configuration with three seeds says little about it: the standard deviation of three values is known to a factor of
two. The configurations of a study vary by similar amounts, so their variances are pooled. A configuration that varies
more than the pool counts with its own variance, and one with a single seed, of which nothing is known, with the largest
variance that the others have shown: a pooled variance alone understates the errors of noisier configurations
(``benchmarks/error_rates.py`` measures it).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from inversion.report.stats.pools import SeedPool


@dataclass(frozen=True)
class SeedNoise:
    """Standard deviation of a mean score between trainings of one configuration.

    Attributes:
        sd: The standard deviation, in the unit of the score (dB for PSNR).
        freedom: Degrees of freedom of ``sd``; infinite if it was given.
        configurations: Number of configurations with several seeds that it was measured on; 0 if it was given.
        largest: The largest standard deviation of these configurations.
    """

    sd: float
    freedom: float = math.inf
    configurations: int = 0
    largest: float = 0.0

    def variance_of_mean(self, pool: SeedPool) -> float:
        """Squared standard error of a configuration's mean due to its seeds."""
        return self.variance_of_training(pool) / pool.n

    def variance_of_training(self, pool: SeedPool) -> float:
        """Variance of the mean score of one training: pooled, or the configuration's own if that is larger.

        That of a configuration with one seed is the largest of all; that of what is not trained is 0.
        """
        if not pool.is_trained:
            return 0.0
        own = pool.spread or 0.0 if pool.n > 1 else self.largest
        return max(self.sd, own) ** 2


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
                     max(pool.spread or 0.0 for pool in several))
