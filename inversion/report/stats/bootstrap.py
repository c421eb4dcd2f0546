"""Bootstrap intervals of means over test images, and over seeds where there are several.

A percentile interval from 10,000 resamples (Efron and Tibshirani, 1993), with its arms stretched for small samples
(after Hesterberg, 2015): resampling n values shows only ``(n-1)/n`` of their variance, and takes no
account of how uncertain that variance is. Both corrections vanish as n grows; 100 images stretch the arms by 1.7 %.
Not BCa: its two corrections are themselves estimated from the few values, it is undefined for identical ones, and it
has no form for two sources of variance, images and seeds.

Several seeds: images and seeds are drawn independently of each other (Owen, 2007), as every network sees every image.
The same number of images is always drawn in the same way, and so is the same set of seeds: answers repeat exactly, and
two configurations with the same images and seeds are compared in pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import stats  # type: ignore[import-untyped]

Array = npt.NDArray[np.float64]

RESAMPLES = 10_000
_BLOCK = 4_000_000
"""Draws that are in memory as 8-byte numbers at once; those that are kept take a byte each."""

_IMAGES = 1993
_SEEDS = 2021


def resampled_means(scores: Array, seeds: Sequence[int]) -> Array:
    """Means of scores ``(images, seeds)`` under each resample of the images, and of the seeds if several: ``(R,)``."""
    n = len(scores)
    by_seed = np.concatenate([block / n @ scores for block in _blocks(_draws(n, (_IMAGES,)))])
    if len(seeds) == 1:
        return np.asarray(by_seed[:, 0], np.float64)
    parts = _draws(len(seeds), (_SEEDS, *seeds)) / len(seeds)
    return np.asarray((by_seed * parts).sum(axis=1), np.float64)


@lru_cache(maxsize=8)
def _draws(n: int, key: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """How often each resample has every one of n things: ``(R, n)``, rows sum to n.

    A byte is enough: the chance that a resample has one thing more than 255 times is below 1e-500.
    """
    generator = np.random.default_rng([*key, n])
    counts = np.empty((RESAMPLES, n), np.uint8)
    for block in _blocks(counts):
        block[:] = generator.multinomial(n, np.full(n, 1 / n), len(block))
    return counts


def _blocks(counts: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.uint8]]:
    """Views of so many rows that their numbers fit into memory."""
    rows = max(1, _BLOCK // counts.shape[1])
    return [counts[start:start + rows] for start in range(0, len(counts), rows)]


def variance_of_mean(values: Array) -> Array:
    """Squared standard error of the mean along the first axis; 0 for a single value, which says nothing of it."""
    n = len(values)
    spread = np.ptp(values, axis=0)
    variance = values.var(axis=0, ddof=1) / n if n > 1 else np.zeros_like(spread)
    return np.asarray(np.where(spread > 0, variance, 0.0), np.float64)


def stretched_percentiles(resampled: Array, estimates: Array, variances: Array, counts: Array,
                          level: float) -> tuple[Array, Array]:
    """Lower and upper ends ``(P,)`` of the intervals of P estimates from their resamples ``(R, P)``.

    ``variances`` ``(sources, P)`` are the squared standard errors that each source (images, seeds) contributes, and
    ``counts`` how many values each was estimated from.
    """
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2], axis=0)
    stretch = _stretch(variances, counts, level)  # 0 where nothing varies: resamples differ by rounding alone
    return estimates + stretch * (low - estimates), estimates + stretch * (high - estimates)


def _stretch(variances: Array, counts: Array, level: float) -> Array:
    """Student's t instead of the normal distribution, times the variance that resampling does not show.

    The degrees of freedom are those of Welch and Satterthwaite; for one source, n - 1.
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
