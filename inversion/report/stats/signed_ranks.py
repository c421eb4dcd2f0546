"""Ranks of paired differences: Wilcoxon's test, the effect size that belongs to it, and Holm's correction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats  # type: ignore[import-untyped]

Array = npt.NDArray[np.float64]

EXACT_UP_TO = 50
"""Differences other than zero up to which p is counted out, ties included; above, the normal approximation."""

DECIMALS = 9
"""Differences (dB, or parts of 1) are ties when they agree to this: rounding in floating point is no difference."""


def signed_ranks(differences: Array) -> Array:
    """Ranks of the sizes of differences with their signs; zeros are left out (rank 0), ties share their mean rank.

    Along the first axis of ``(images, …)``. Wilcoxon, 1945.
    """
    rounded = differences.round(DECIMALS)
    sizes = np.abs(rounded)
    zeros = (sizes == 0).sum(axis=0)
    return np.asarray(np.sign(rounded) * (stats.rankdata(sizes, axis=0) - zeros), np.float64)


def wilcoxon_p(ranks: Array) -> float:
    """Two-sided p of signed ranks ``(images,)``: how often signs thrown by a coin would be at least as uneven.

    1 where all differences are zero. With fewer than six differences no p is below 0.05.
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
    """Share of all ``2^n`` ways to sign the ranks whose smaller sum is at most this; ranks are multiples of a half."""
    doubled = np.rint(2 * sizes).astype(int)
    ways = np.zeros(doubled.sum() + 1)
    ways[0] = 1
    for size in doubled:
        ways[size:] = ways[size:] + ways[:-size]
    tail = ways[: round(2 * smaller) + 1].sum() / 2.0 ** len(sizes)
    return min(1.0, float(2 * tail))


def rank_biserial(ranks: Array) -> float:
    """Matched-pairs rank-biserial correlation, -1…1: the favourable share of the rank sum minus the unfavourable.

    1 where every difference is above zero, 0 where all are zero. Kerby, 2014.
    """
    total = float(np.abs(ranks).sum())
    return float(ranks.sum()) / total if total else 0.0


def holm(p: Sequence[float]) -> list[float]:
    """p of several tests corrected so that the chance of a single false one stays below the level. Holm, 1979."""
    order = sorted(range(len(p)), key=lambda index: p[index])
    corrected, largest = [0.0] * len(p), 0.0
    for place, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p) - place) * p[index]))
        corrected[index] = largest
    return corrected
