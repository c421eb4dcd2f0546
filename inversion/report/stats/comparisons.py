"""Paired comparisons of configurations on the same test images: Wilcoxon's test, effect size and Holm's correction.

Some images are hard for every configuration, so two configurations are compared image by image. The standard deviation
over images, by which the published study judges differences, is not the uncertainty of a difference.
``docs/statistics.md`` explains each choice, with sources.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import pandas as pd
from scipy import stats  # type: ignore[import-untyped]

from inversion.report.stats.intervals import (
    LEVEL,
    Array,
    Interval,
    SeedPool,
    interval_between,
    pool_seeds,
    stretched_percentiles,
    variance_of_mean,
)

SIGNIFICANT = 0.05

Pair = tuple[str, str]
Key = TypeVar("Key")

_BATCH = 256
"""Pairs whose resamples are in memory at once: 20 MB."""

EXACT_UP_TO = 50
"""Up to this number of nonzero differences, p is exact (ties included); above it, the normal approximation is used."""

DECIMALS = 9
"""Differences are rounded to this many decimals before ranking, so that floating-point error does not break ties."""


@dataclass(frozen=True)
class Comparison:
    """Two configurations, ``a`` and ``b``, on the same test images.

    Attributes:
        images: Number of test images.
        difference: Mean of ``a - b``.
        interval: 95 % bootstrap interval of ``difference``; None for one image.
        p: Two-sided p of Wilcoxon's signed-rank test.
        effect: Rank-biserial correlation, -1…1.
        p_corrected: p after Holm's correction within the family of comparisons; None for a single comparison.
        seeds: Number of seeds of ``a`` and of ``b``. With one seed, the interval does not include how that
            configuration varies between trainings; ``p`` never does.
    """

    images: int
    difference: float
    interval: Interval | None
    p: float
    effect: float
    p_corrected: float | None = None
    seeds: tuple[int, int] = (1, 1)

    def reversed(self) -> Comparison:
        """The same comparison with ``a`` and ``b`` swapped."""
        turned = self.interval and Interval(-self.interval.high, -self.interval.low)
        return replace(self, difference=-self.difference, interval=turned, effect=-self.effect,
                       seeds=self.seeds[::-1])


def holds_up(comparison: Comparison) -> bool:
    """Whether a difference is significant: p (corrected, if available) is below 0.05, and the interval excludes 0."""
    p = comparison.p if comparison.p_corrected is None else comparison.p_corrected
    return p < SIGNIFICANT and comparison.interval is not None and 0.0 not in comparison.interval


def compare(a: pd.Series, b: pd.Series) -> Comparison:
    """Compares the scores of two runs; both series are indexed by image name, in any order.

    Raises:
        ValueError: different images, a duplicate image, or a score that is not finite.
    """
    return compare_pools(pool_seeds({0: a}), pool_seeds({0: b}))


def compare_pools(a: SeedPool, b: SeedPool) -> Comparison:
    """Compares two configurations, each with one seed or several.

    If both have the same seeds, seeds are compared in pairs; different seeds are resampled independently. For one seed
    against several, only the several are resampled, so the interval is too narrow.

    Raises:
        ValueError: different images.
    """
    return _compare_pairs({"a": a, "b": b}, [("a", "b")])["a", "b"]


def compare_all(scores: pd.DataFrame) -> dict[Pair, Comparison]:
    """Every pair of columns (configurations) over the rows (images), Holm-corrected over all pairs.

    Raises:
        ValueError: a duplicate image, or a score that is not finite.
    """
    return compare_all_pools({str(name): pool_seeds({0: scores[name]}) for name in scores.columns})


def compare_all_pools(pools: Mapping[str, SeedPool]) -> dict[Pair, Comparison]:
    """Every pair of configurations, Holm-corrected over all pairs.

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
    """Treats comparisons as one family: fills in ``p_corrected`` (Holm)."""
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
                             interval=interval_between(len(differences), ends[0][i], ends[1][i]),
                             p=wilcoxon_p(ranks[:, i]), effect=rank_biserial(ranks[:, i]),
                             seeds=(pools[pair[0]].n, pools[pair[1]].n))
            for i, pair in enumerate(pairs)}


def _seed_variances(a: SeedPool, b: SeedPool) -> tuple[tuple[float, float], tuple[float, float]]:
    """Squared standard errors due to the seeds of a and b, and the numbers of seeds; paired if the seeds are equal."""
    of_a, of_b = a.values.mean(axis=0), b.values.mean(axis=0)
    if a.seeds == b.seeds:
        return (float(variance_of_mean(of_a - of_b)), 0.0), (a.n, 1.0)
    return (float(variance_of_mean(of_a)), float(variance_of_mean(of_b))), (a.n, b.n)


def signed_ranks(differences: Array) -> Array:
    """Signed ranks of absolute differences; zeros are dropped (rank 0), ties share their mean rank.

    Along the first axis of ``(images, …)``. Wilcoxon, 1945.
    """
    rounded = differences.round(DECIMALS)
    sizes = np.abs(rounded)
    zeros = (sizes == 0).sum(axis=0)
    return np.asarray(np.sign(rounded) * (stats.rankdata(sizes, axis=0) - zeros), np.float64)


def wilcoxon_p(ranks: Array) -> float:
    """Two-sided p of signed ranks ``(images,)``: the probability of a sum at least as uneven if signs were random.

    1 if all differences are zero. With fewer than six differences no p is below 0.05.
    """
    sizes = np.abs(ranks[ranks != 0])
    if not len(sizes):
        return 1.0
    centre = sizes.sum() / 2
    away = abs(float(ranks[ranks > 0].sum()) - centre)
    if len(sizes) <= EXACT_UP_TO:
        return _exact_p(sizes, centre - away)
    deviation = float(np.sqrt((sizes**2).sum())) / 2
    return min(1.0, float(2 * stats.norm.sf(away / deviation)))


def _exact_p(sizes: Array, smaller: float) -> float:
    """Share of all ``2^n`` sign assignments with a rank sum of at most ``smaller``; ranks are multiples of 0.5."""
    doubled = np.rint(2 * sizes).astype(int)
    ways = np.zeros(doubled.sum() + 1)
    ways[0] = 1
    for size in doubled:
        ways[size:] = ways[size:] + ways[:-size]
    tail = ways[: round(2 * smaller) + 1].sum() / 2.0 ** len(sizes)
    return min(1.0, float(2 * tail))


def rank_biserial(ranks: Array) -> float:
    """Matched-pairs rank-biserial correlation, -1…1: the favourable share of the rank sum minus the unfavourable.

    1 if every difference is positive, 0 if all are zero. Kerby, 2014.
    """
    total = float(np.abs(ranks).sum())
    return float(ranks.sum()) / total if total else 0.0


def holm(p: Sequence[float]) -> list[float]:
    """Corrected p values that control the family-wise error rate. Holm, 1979."""
    order = sorted(range(len(p)), key=lambda index: p[index])
    corrected, largest = [0.0] * len(p), 0.0
    for place, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p) - place) * p[index]))
        corrected[index] = largest
    return corrected
