"""What can be said of scores on the same test images: intervals, and paired differences that hold up or do not.

Images are easy or hard for every configuration alike, so two configurations are compared image by image: the standard
deviation over images, which the published study judges differences by, is not the uncertainty of their difference.
``docs/statistics.md`` explains each choice, with sources.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import pandas as pd

from inversion.report.stats.bootstrap import stretched_percentiles, variance_of_mean
from inversion.report.stats.seed_pool import SeedPool, pool_seeds
from inversion.report.stats.signed_ranks import holm, rank_biserial, signed_ranks, wilcoxon_p

__all__ = ["LEVEL", "SIGNIFICANT", "Comparison", "Interval", "SeedPool", "compare", "compare_all", "compare_all_pools",
           "compare_family", "compare_pools", "correct", "holds_up", "interval", "pool_interval", "pool_seeds"]

LEVEL = 0.95
SIGNIFICANT = 0.05

Pair = tuple[str, str]
Key = TypeVar("Key")

_BATCH = 256
"""Pairs whose resamples are in memory at once: 20 MB."""


@dataclass(frozen=True)
class Interval:
    """From ``low`` to ``high``, both included."""

    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True)
class Comparison:
    """Two configurations, ``a`` and ``b``, on the same test images; differences are ``a - b``.

    ``interval`` is the 95 % bootstrap interval of ``difference`` (None for one image), ``p`` Wilcoxon's signed-rank
    test, two-sided, ``effect`` the rank-biserial correlation (-1…1). ``p_corrected`` is Holm's p within the family of
    comparisons that this one was made in, None if it was made alone. ``seeds`` counts those of ``a`` and of ``b``:
    where one is 1, the interval leaves out how that configuration varies between trainings; ``p`` always does.
    """

    images: int
    difference: float
    interval: Interval | None
    p: float
    effect: float
    p_corrected: float | None = None
    seeds: tuple[int, int] = (1, 1)

    def reversed(self) -> Comparison:
        """The same with ``a`` and ``b`` exchanged."""
        turned = self.interval and Interval(-self.interval.high, -self.interval.low)
        return replace(self, difference=-self.difference, interval=turned, effect=-self.effect,
                       seeds=self.seeds[::-1])


def holds_up(comparison: Comparison) -> bool:
    """Whether a difference is more than chance: p (corrected, where it was) below 0.05, and 0 outside the interval."""
    p = comparison.p if comparison.p_corrected is None else comparison.p_corrected
    return p < SIGNIFICANT and comparison.interval is not None and 0.0 not in comparison.interval


def interval(values: Sequence[float] | pd.Series, level: float = LEVEL) -> Interval | None:
    """Bootstrap interval of the mean of scores, one for each image.

    None for a single value, which says nothing of the others; zero width for identical ones.

    Raises:
        ValueError: no value, one that is no finite number, or a level outside (0, 1).
    """
    return pool_interval(pool_seeds({0: pd.Series(sorted(float(value) for value in values))}), level)


def pool_interval(pool: SeedPool, level: float = LEVEL) -> Interval | None:
    """Bootstrap interval of a configuration's mean, over images and, where there are several, over seeds.

    None for a single image.

    Raises:
        ValueError: a level outside (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError(f"an interval's level is between 0 and 1, not {level}")
    values = pool.values
    variances = np.array([[variance_of_mean(values.mean(axis=1))], [variance_of_mean(values.mean(axis=0))]])
    low, high = stretched_percentiles(pool.resampled[:, None], np.array([pool.mean]), variances,
                                      np.array([[len(values)], [pool.n]], np.float64), level)
    return _interval(len(values), low[0], high[0])


def compare(a: pd.Series, b: pd.Series) -> Comparison:
    """Compares the scores of two runs; both series have the names of the images as their index, in any order.

    Raises:
        ValueError: different images, an image twice, or a score that is no finite number.
    """
    return compare_pools(pool_seeds({0: a}), pool_seeds({0: b}))


def compare_pools(a: SeedPool, b: SeedPool) -> Comparison:
    """Compares two configurations, each with one seed or several.

    The same several seeds on both sides are compared in pairs; different ones are drawn independently. One seed against
    several: only the several are drawn, so the interval is too narrow by what the one does not tell.

    Raises:
        ValueError: different images.
    """
    return _compare_pairs({"a": a, "b": b}, [("a", "b")])["a", "b"]


def compare_all(scores: pd.DataFrame) -> dict[Pair, Comparison]:
    """Every pair of columns (configurations, in their order) over the rows (images), Holm-corrected over all pairs.

    Raises:
        ValueError: an image twice, or a score that is no finite number.
    """
    return compare_all_pools({str(name): pool_seeds({0: scores[name]}) for name in scores.columns})


def compare_all_pools(pools: Mapping[str, SeedPool]) -> dict[Pair, Comparison]:
    """Every pair of configurations, in their order, Holm-corrected over all pairs.

    Raises:
        ValueError: different images.
    """
    return compare_family(pools, list(itertools.combinations(pools, 2)))


def compare_family(pools: Mapping[str, SeedPool], pairs: Sequence[Pair]) -> dict[Pair, Comparison]:
    """The given pairs of configurations, Holm-corrected over these.

    Raises:
        ValueError: different images.
    """
    return correct(_compare_pairs(pools, pairs))


def correct(comparisons: Mapping[Key, Comparison]) -> dict[Key, Comparison]:
    """The same comparisons as one family: with p corrected for their number (Holm)."""
    corrected = holm([comparison.p for comparison in comparisons.values()])
    return {key: replace(comparison, p_corrected=p)
            for (key, comparison), p in zip(comparisons.items(), corrected, strict=True)}


def _compare_pairs(pools: Mapping[str, SeedPool], pairs: Sequence[Pair]) -> dict[Pair, Comparison]:
    if not pairs:
        return {}
    names = {name: pool.table.index for name, pool in pools.items()}
    first = next(iter(names))
    for name, index in names.items():
        if not index.equals(names[first]):
            raise ValueError(f"{first} and {name} were scored on different images")
    found: dict[Pair, Comparison] = {}
    for start in range(0, len(pairs), _BATCH):
        found |= _compare_batch(pools, pairs[start:start + _BATCH])
    return found


def _compare_batch(pools: Mapping[str, SeedPool], pairs: Sequence[Pair]) -> dict[Pair, Comparison]:
    scores = {name: pools[name].values.mean(axis=1) for pair in pairs for name in pair}
    differences = np.column_stack([scores[a] - scores[b] for a, b in pairs])
    estimates = differences.mean(axis=0)
    by_seed = [_seed_variances(pools[a], pools[b]) for a, b in pairs]
    variances = np.vstack([variance_of_mean(differences), np.array([variance for variance, _ in by_seed]).T])
    counts = np.vstack([np.full(len(pairs), float(len(differences))), np.array([count for _, count in by_seed]).T])
    resampled = np.column_stack([pools[a].resampled - pools[b].resampled for a, b in pairs])
    ends = stretched_percentiles(resampled, estimates, variances, counts, LEVEL)
    ranks = signed_ranks(differences)
    return {pair: Comparison(images=len(differences), difference=float(estimates[i]),
                             interval=_interval(len(differences), ends[0][i], ends[1][i]),
                             p=wilcoxon_p(ranks[:, i]), effect=rank_biserial(ranks[:, i]),
                             seeds=(pools[pair[0]].n, pools[pair[1]].n))
            for i, pair in enumerate(pairs)}


def _seed_variances(a: SeedPool, b: SeedPool) -> tuple[tuple[float, float], tuple[float, float]]:
    """Squared standard errors from the seeds of a and of b, and their numbers; for the same seeds, from their pairs."""
    of_a, of_b = a.values.mean(axis=0), b.values.mean(axis=0)
    if a.seeds == b.seeds:
        return (float(variance_of_mean(of_a - of_b)), 0.0), (a.n, 1.0)
    return (float(variance_of_mean(of_a)), float(variance_of_mean(of_b))), (a.n, b.n)


def _interval(images: int, low: float, high: float) -> Interval | None:
    return Interval(float(low), float(high)) if images > 1 else None
