"""Bootstrap confidence intervals of mean scores, over the test images and over the seeds.

Percentile intervals from 10,000 resamples (Efron and Tibshirani, 1993). Both ends are moved away from the mean to
correct for small samples (after Hesterberg, 2015): resampling n values shows only ``(n-1)/n`` of their variance and
ignores the uncertainty of that variance. Both corrections vanish as n grows; 100 images widen the interval by 1.7 %.
BCa is not used: its two corrections are estimated from the same few values, it is undefined for identical values, and
it has no form for two sources of variance, images and seeds.

With several seeds, images and seeds are resampled independently (Owen, 2007), because every network sees every image.
The resamples depend only on the number of images and the set of seeds. Results are therefore reproducible, and two
configurations with the same images and seeds are compared in pairs.

One seed says nothing about how much a score varies from training to training (Bouthillier et al., 2021): an interval
from one seed holds for that trained network only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats  # type: ignore[import-untyped]

Array = npt.NDArray[np.float64]

LEVEL = 0.95
RESAMPLES = 10_000

_BLOCK = 4_000_000
"""Counts converted to 8-byte numbers at a time; cached counts take one byte each."""

_IMAGES = 1993
_SEEDS = 2021
"""Random seeds of the resamples of images and of training seeds."""


@dataclass(frozen=True)
class Interval:
    """A closed interval."""

    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True, eq=False)
class SeedPool:
    """Scores with a row for each test image (sorted by name) and a column for each seed."""

    table: pd.DataFrame

    @property
    def seeds(self) -> tuple[int, ...]:
        """In ascending order."""
        return tuple(int(seed) for seed in self.table.columns)

    @property
    def n(self) -> int:
        """How many seeds."""
        return self.table.shape[1]

    @cached_property
    def values(self) -> Array:
        """``(images, seeds)``."""
        return self.table.to_numpy(np.float64)

    @cached_property
    def resampled(self) -> Array:
        """The mean under every resample of the images and seeds: ``(R,)``."""
        return resampled_means(self.values, self.seeds)

    @property
    def scores(self) -> pd.Series:
        """Mean over the seeds for each image: what paired tests compare."""
        return self.table.mean(axis=1)

    @property
    def mean(self) -> float:
        """Over images and seeds."""
        return float(self.values.mean())

    @property
    def seed_means(self) -> pd.Series:
        """Mean over the images for each seed."""
        return self.table.mean(axis=0)

    @property
    def spread(self) -> float | None:
        """Standard deviation (ddof 1) of the seeds' means; None for one seed, which says nothing about it."""
        return float(self.seed_means.std(ddof=1)) if self.n > 1 else None


def pool_seeds(frames: Mapping[int, pd.Series]) -> SeedPool:
    """Combines the scores of a configuration's seeds; ``frames`` has a series of scores by image name for each seed.

    Raises:
        ValueError: no seeds, seeds scored on different images, a duplicate image, or a score that is not finite.
    """
    if not frames:
        raise ValueError("no seeds to pool")
    seeds = sorted(frames)
    columns = [_checked(frames[seed], f"seed {seed}") for seed in seeds]
    for seed, column in zip(seeds, columns, strict=True):
        if not column.index.equals(columns[0].index):
            raise ValueError(f"seeds {seeds[0]} and {seed} were scored on different images")
    return SeedPool(pd.DataFrame(dict(zip(seeds, columns, strict=True))))


def _checked(scores: pd.Series, what: str) -> pd.Series:
    if not len(scores):
        raise ValueError(f"{what}: no images")
    if not scores.index.is_unique:
        raise ValueError(f"{what}: image {scores.index[scores.index.duplicated()][0]!r} occurs twice")
    if not np.isfinite(scores.to_numpy(np.float64)).all():
        bad = scores.index[~np.isfinite(scores.to_numpy(np.float64))][0]
        raise ValueError(f"{what}: the score of image {bad!r} is not finite")
    return scores.sort_index()


def interval(values: Sequence[float] | pd.Series, level: float = LEVEL) -> Interval | None:
    """Bootstrap interval of the mean of per-image scores.

    None for a single value; zero width for identical values.

    Raises:
        ValueError: no values, a value that is not finite, or a level outside (0, 1).
    """
    return pool_interval(pool_seeds({0: pd.Series(sorted(float(value) for value in values))}), level)


def pool_interval(pool: SeedPool, level: float = LEVEL) -> Interval | None:
    """Bootstrap interval of a configuration's mean over images and, with several seeds, over seeds.

    None for a single image.

    Raises:
        ValueError: a level outside (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError(f"the level of an interval must be between 0 and 1, got {level}")
    values = pool.values
    variances = np.array([[variance_of_mean(values.mean(axis=1))], [variance_of_mean(values.mean(axis=0))]])
    low, high = stretched_percentiles(pool.resampled[:, None], np.array([pool.mean]), variances,
                                      np.array([[len(values)], [pool.n]], np.float64), level)
    return interval_between(len(values), low[0], high[0])


def interval_between(images: int, low: float, high: float) -> Interval | None:
    """The interval; None for a single image, which says nothing about other images."""
    return Interval(float(low), float(high)) if images > 1 else None


def resampled_means(scores: Array, seeds: Sequence[int], block: int = _BLOCK) -> Array:
    """Means of scores ``(images, seeds)`` for each resample of the images and, with several seeds, the seeds: ``(R,)``.

    ``block`` bounds the memory: so many counts are converted to floating point at a time.
    """
    n = len(scores)
    by_seed = np.concatenate([part / n @ scores for part in _blocks(resample_counts(n, _IMAGES), block)])
    if len(seeds) == 1:
        return np.asarray(by_seed[:, 0], np.float64)
    parts = resample_counts(len(seeds), _SEEDS, *seeds) / len(seeds)
    return np.asarray((by_seed * parts).sum(axis=1), np.float64)


@lru_cache(maxsize=8)
def resample_counts(n: int, *key: int) -> npt.NDArray[np.uint8]:
    """How often each of n items is drawn in each resample: ``(R, n)``, rows sum to n. ``key`` seeds the generator.

    One byte per count is enough: the probability of drawing an item more than 255 times is below 1e-500.
    """
    generator = np.random.default_rng([*key, n])
    counts = np.empty((RESAMPLES, n), np.uint8)
    for part in _blocks(counts, _BLOCK):
        part[:] = generator.multinomial(n, np.full(n, 1 / n), len(part))
    return counts


def _blocks(counts: npt.NDArray[np.uint8], block: int) -> list[npt.NDArray[np.uint8]]:
    """Views of consecutive rows with at most ``block`` counts each (at least one row)."""
    rows = max(1, block // counts.shape[1])
    return [counts[start:start + rows] for start in range(0, len(counts), rows)]


def variance_of_mean(values: Array) -> Array:
    """Squared standard error of the mean along the first axis; 0 for a single value, which has none."""
    n = len(values)
    spread = np.ptp(values, axis=0)
    variance = values.var(axis=0, ddof=1) / n if n > 1 else np.zeros_like(spread)
    return np.asarray(np.where(spread > 0, variance, 0.0), np.float64)


def stretched_percentiles(resampled: Array, estimates: Array, variances: Array, counts: Array,
                          level: float) -> tuple[Array, Array]:
    """Lower and upper ends ``(P,)`` of the intervals of P estimates, from their resamples ``(R, P)``.

    ``variances`` ``(sources, P)`` are the squared standard errors contributed by each source (images, seeds), and
    ``counts`` ``(sources, P)`` the numbers of values that they were estimated from.
    """
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2], axis=0)
    stretch = _stretch(variances, counts, level)  # 0 where nothing varies: resamples then differ only by rounding
    return estimates + stretch * (low - estimates), estimates + stretch * (high - estimates)


def _stretch(variances: Array, counts: Array, level: float) -> Array:
    """The factor from Student's t and from the variance that resampling does not show.

    Degrees of freedom by Welch and Satterthwaite; n - 1 for one source.
    """
    total = variances.sum(axis=0)
    varies = total > 0
    safe = np.where(varies, total, 1.0)
    shown = np.where(varies, (variances * (1 - 1 / counts)).sum(axis=0), 1.0)
    squares = (variances**2 / np.maximum(counts - 1, 1)).sum(axis=0)
    freedom = safe**2 / np.where(varies, squares, 1.0)
    upper = (1 + level) / 2
    stretch = stats.t.ppf(upper, freedom) / stats.norm.ppf(upper) * np.sqrt(safe / shown)
    return np.asarray(np.where(varies, stretch, 0.0), np.float64)
