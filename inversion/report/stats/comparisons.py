"""Paired comparisons of configurations on the same test images, corrected for their number (Holm).

Some images are hard for every configuration, so two configurations are compared image by image. Training is random,
too: the same configuration with another seed has another mean. The standard error of a difference has both parts,

    t = mean(a - b) / sqrt(v_images + v_seeds)

``docs/statistics.md`` explains each choice, with sources; ``benchmarks/error_rates.py`` measures the error rates.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import numpy as np
import pandas as pd
from scipy import stats  # type: ignore[import-untyped]

from inversion.report.stats.intervals import LEVEL, Estimate, Interval, estimate, variance_of_mean
from inversion.report.stats.pools import Array, SeedPool, pool_seeds
from inversion.report.stats.seed_noise import SeedNoise

SIGNIFICANT = 0.05

FEWEST_IMAGES = 6
"""With fewer test images, no difference holds up: t assumes that a mean over images is close to normal."""

DECIMALS = 9
"""Differences are rounded to this many decimals, so that floating-point error is not a difference."""

Pair = tuple[str, str]
Key = TypeVar("Key")


@dataclass(frozen=True)
class Comparison:
    """Two configurations, ``a`` and ``b``, on the same test images.

    Attributes:
        images: Number of test images; of two sets, that of the smaller one.
        estimate: Mean of ``a - b`` with its standard error.
        effect: Rank-biserial correlation, -1…1: 1 if ``a`` is ahead on every image.
        seeds: Number of seeds of ``a`` and of ``b``.
        noise: The seed noise that the standard error includes. None if it is not known: the comparison then holds for
            the trained networks, and says nothing of the configurations.
        p_corrected: p after Holm's correction within the family of comparisons; None for a single comparison.
        family: Number of comparisons in that family.
        is_paired: Whether both were scored on the same images.
    """

    images: int
    estimate: Estimate
    effect: float
    seeds: tuple[int, int] = (1, 1)
    noise: SeedNoise | None = None
    p_corrected: float | None = None
    family: int = 1
    is_paired: bool = True

    @property
    def difference(self) -> float:
        """Mean of ``a - b``."""
        return self.estimate.mean

    @cached_property
    def interval(self) -> Interval | None:
        """The 95 % interval of this difference alone; None for one image."""
        return self.estimate.interval()

    @cached_property
    def simultaneous(self) -> Interval | None:
        """The interval that holds at 95 % together with those of all other comparisons of the family (Bonferroni)."""
        return self.estimate.interval(1 - (1 - LEVEL) / self.family)

    @property
    def p(self) -> float:
        """Two-sided p of the paired t test; corrected if the comparison belongs to a family."""
        return self.estimate.p if self.p_corrected is None else self.p_corrected

    @property
    def is_decidable(self) -> bool:
        """Whether it can say anything of the configurations: the seed noise is known, and there are enough images."""
        return self.noise is not None and self.images >= FEWEST_IMAGES

    def reversed(self) -> Comparison:
        """The same comparison with ``a`` and ``b`` swapped."""
        return replace(self, estimate=replace(self.estimate, mean=-self.difference), effect=-self.effect,
                       seeds=self.seeds[::-1])


def holds_up(comparison: Comparison) -> bool:
    """Whether the configurations differ: p (corrected, if in a family) is below 0.05 with the seed noise included."""
    return comparison.is_decidable and comparison.p < SIGNIFICANT


def trainings_differ(comparison: Comparison) -> bool:
    """Whether the trained networks differ on such images; the configurations need not, where the noise is unknown."""
    return comparison.images >= FEWEST_IMAGES and comparison.p < SIGNIFICANT


def outcome(comparison: Comparison) -> str:
    """``yes`` if the configurations differ, ``one seed`` if only the trained networks are known to, else ``no``."""
    if holds_up(comparison):
        return "yes"
    return "one seed" if comparison.noise is None and trainings_differ(comparison) else "no"


def compare(a: pd.Series, b: pd.Series) -> Comparison:
    """Compares the scores of two trained networks; both series are indexed by image name, in any order.

    Raises:
        ValueError: different images, a duplicate image, or a score that is not finite.
    """
    return compare_pools(pool_seeds({0: a}), pool_seeds({0: b}))


def compare_pools(a: SeedPool, b: SeedPool, noise: SeedNoise | None = None) -> Comparison:
    """Compares two configurations, each with one seed or several; not corrected.

    Raises:
        ValueError: different images.
    """
    if not a.table.index.equals(b.table.index):
        raise ValueError("a and b were scored on different images")
    differences = (a.values.mean(axis=1) - b.values.mean(axis=1)).round(DECIMALS)
    seed_variance = noise.variance_of_mean(a) + noise.variance_of_mean(b) if noise else 0.0
    return Comparison(len(differences), estimate(differences, seed_variance, noise), rank_biserial(differences),
                      (a.n, b.n), noise)


def compare_apart(a: SeedPool, b: SeedPool, noise: SeedNoise | None = None) -> Comparison:
    """Compares two configurations that were scored on different images; not corrected.

    The variance of each set of images counts in full, so that only large differences hold up, and these may be due to
    the images. Degrees of freedom: Welch, 1947, and at most those of the seed noise.
    """
    sides = [pool.values.mean(axis=1) for pool in (a, b)]
    parts = [variance_of_mean(side) for side in sides]
    freedom = _welch(parts, [len(side) - 1 for side in sides])
    if noise is not None:
        freedom = min(freedom, noise.freedom)
    variance = sum(parts) + (noise.variance_of_mean(a) + noise.variance_of_mean(b) if noise else 0.0)
    difference = round(float(sides[0].mean() - sides[1].mean()), DECIMALS)
    effect = 2 * float(stats.mannwhitneyu(*sides).statistic) / (len(sides[0]) * len(sides[1])) - 1
    return Comparison(min(map(len, sides)), Estimate(difference, math.sqrt(variance), freedom), effect, (a.n, b.n),
                      noise, is_paired=False)


def _welch(variances: Sequence[float], freedoms: Sequence[int]) -> float:
    """Degrees of freedom of the sum of two squared standard errors; 0 if one of them has none."""
    if min(freedoms) < 1:
        return 0.0
    if not sum(variances):
        return float(min(freedoms))
    return sum(variances) ** 2 / sum(part**2 / freedom for part, freedom in zip(variances, freedoms, strict=True))


def correct(comparisons: Mapping[Key, Comparison]) -> dict[Key, Comparison]:
    """Treats comparisons as one family: fills in ``p_corrected`` (Holm)."""
    corrected = holm(np.array([comparison.estimate.p for comparison in comparisons.values()]))
    return {key: replace(comparison, p_corrected=float(p), family=len(comparisons))
            for (key, comparison), p in zip(comparisons.items(), corrected, strict=True)}


class AllPairs:
    """The differences between all configurations, as one family.

    A comparison that was chosen by looking at the scores, such as the best configuration with another one, has to be
    corrected for all comparisons that could have been chosen. All pairs of n configurations are ``n (n - 1) / 2``.
    """

    def __init__(self, pools: Mapping[str, SeedPool], noise: SeedNoise | None = None) -> None:
        """Args:
            pools: The scores of each configuration.
            noise: The seed noise; None if it is not known.

        Raises:
            ValueError: configurations were scored on different images.
        """
        names = list(pools)
        for name in names[1:]:
            if not pools[name].table.index.equals(pools[names[0]].table.index):
                raise ValueError(f"{names[0]} and {name} were scored on different images")
        self._pools, self._noise = pools, noise
        self._row = {name: number for number, name in enumerate(names)}
        self.family = len(names) * (len(names) - 1) // 2
        self._corrected = self._correct() if self.family else np.ones((len(names), len(names)))

    def get(self, a: str, b: str) -> Comparison:
        """``a - b`` with p corrected for all pairs."""
        found = compare_pools(self._pools[a], self._pools[b], self._noise)
        return replace(found, p_corrected=float(self._corrected[self._row[a], self._row[b]]), family=self.family)

    def among(self, names: Sequence[str]) -> dict[Pair, Comparison]:
        """Every pair of some of the configurations; corrected for all pairs nevertheless."""
        return {pair: self.get(*pair) for pair in itertools.combinations(names, 2)}

    def _correct(self) -> Array:
        """Corrected p of every pair, ``(n, n)``, without a loop over the pairs."""
        scores = np.stack([pool.values.mean(axis=1) for pool in self._pools.values()])  # (n, images)
        scores = scores - scores.mean(axis=0)  # what all share cancels in differences, and would cost digits
        images = scores.shape[1]
        means = scores.mean(axis=1)
        differences = np.subtract.outer(means, means).round(DECIMALS)
        variances, freedom = np.zeros_like(differences), images - 1.0
        if images > 1:
            covariances = np.cov(scores)
            own = np.diagonal(covariances)
            variances += np.maximum(np.add.outer(own, own) - 2 * covariances, 0.0) / images
        if self._noise is not None:
            by_seed = np.array([self._noise.variance_of_mean(pool) for pool in self._pools.values()])
            variances += np.add.outer(by_seed, by_seed)
            freedom = min(freedom, self._noise.freedom)
        upper = np.triu_indices(len(means), 1)
        p = np.ones(len(upper[0]))
        differ = np.abs(differences[upper]) > 0
        if freedom >= 1:
            t = np.abs(differences[upper][differ]) / np.sqrt(np.maximum(variances[upper][differ], 1e-300))
            p[differ] = 2 * stats.t.sf(t, freedom)
        corrected = np.ones_like(differences)
        corrected[upper] = holm(p)
        return np.asarray(np.minimum(corrected, corrected.T), np.float64)


def holm(p: Array) -> Array:
    """Corrected p values that control the family-wise error rate. Holm, 1979."""
    order = np.argsort(p, kind="stable")
    corrected = np.empty_like(p)
    corrected[order] = np.maximum.accumulate(np.minimum(1.0, (len(p) - np.arange(len(p))) * p[order]))
    return corrected


def rank_biserial(differences: Array) -> float:
    """Matched-pairs rank-biserial correlation, -1…1: the favourable share of the rank sum minus the unfavourable.

    Ranks are of absolute differences; zeros are left out, ties share their mean rank. 1 if every difference is
    positive, 0 if all are zero. Kerby, 2014.
    """
    differing = differences[differences != 0]
    if not len(differing):
        return 0.0
    ranks = stats.rankdata(np.abs(differing))
    return float((np.sign(differing) * ranks).sum() / ranks.sum())


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Spearman's rank correlation, -1…1; None if it is not defined, as where all values of one side are equal."""
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    found = float(stats.spearmanr(a, b).statistic)
    return None if math.isnan(found) else found
