"""Several seeds of a configuration: averaged where images are paired, drawn where the interval is asked for."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from inversion.report.stats.comparisons import compare, compare_all_pools, compare_pools, holds_up
from inversion.report.stats.intervals import SeedPool, interval, pool_interval, pool_seeds

Array = npt.NDArray[np.float64]

pytestmark = pytest.mark.filterwarnings("error")


def scored(values: Array | list[float]) -> pd.Series:
    """Scores of images called 000, 001, …"""
    return pd.Series(np.asarray(values, float), [f"{i:03}.png" for i in range(len(values))])


def seeds_of(values: Array, seeds: tuple[int, ...] | None = None) -> SeedPool:
    """A pool from ``(images, seeds)``."""
    return pool_seeds({seed: scored(values[:, i]) for i, seed in enumerate(seeds or tuple(range(values.shape[1])))})


def test_seeds_are_averaged_for_each_image_and_their_spread_is_told() -> None:
    pool = pool_seeds({2: scored([3.0, 5.0]), 0: scored([1.0, 3.0]), 1: scored([2.0, 1.0])[::-1]})
    assert pool.seeds == (0, 1, 2)
    assert pool.scores.to_list() == [2.0, 3.0]
    assert pool.mean == 2.5
    assert pool.seed_means.to_dict() == {0: 2.0, 1: 1.5, 2: 4.0}
    assert pool.spread == pytest.approx(np.std([2.0, 1.5, 4.0], ddof=1))


def test_one_seed_says_nothing_about_the_spread_of_trainings() -> None:
    pool = pool_seeds({7: scored([1.0, 2.0, 3.0])})
    assert (pool.n, pool.spread) == (1, None)
    assert pool_interval(pool) == interval([1.0, 2.0, 3.0])


@pytest.mark.parametrize(("frames", "message"), [
    ({}, "no seeds to pool"),
    ({0: scored([1, 2]), 1: scored([1, 2, 3])}, "seeds 0 and 1 were scored on different images"),
    ({0: scored([1, 2]), 1: scored([1, np.nan])}, "seed 1: the score of image"),
])
def test_seeds_that_do_not_belong_together_are_refused(frames: dict[int, pd.Series], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pool_seeds(frames)


def test_seeds_that_disagree_widen_the_interval() -> None:
    images = np.random.default_rng(1).normal(17, 0.1, (100, 1))
    agreeing = seeds_of(images + np.array([[0.0, 0.0, 0.0]]))
    disagreeing = seeds_of(images + np.array([[-0.5, 0.0, 0.5]]))
    assert agreeing.scores.to_list() == pytest.approx(disagreeing.scores.to_list())
    narrow, wide = pool_interval(agreeing), pool_interval(disagreeing)
    assert narrow is not None
    assert wide is not None
    assert narrow.high - narrow.low == pytest.approx(2 * 1.98 * 0.1 / 10, rel=0.2)
    # Student's interval of three values: 4.30 standard errors, 0.5/√3 each
    assert wide.high - wide.low == pytest.approx(2 * 4.30 * 0.5 / np.sqrt(3), rel=0.2)


def test_a_difference_that_hangs_on_the_seed_does_not_hold_up() -> None:
    images = np.random.default_rng(2).normal(17, 1, (100, 1))
    steady, lucky = seeds_of(images + np.array([[0.0, 0.01, -0.01]])), seeds_of(images + np.array([[0.9, -0.3, -0.1]]))
    assert not holds_up(compare_pools(lucky, steady))
    assert holds_up(compare(lucky.table[0], steady.table[0]))  # one seed would have shown a winner
    assert holds_up(compare_pools(seeds_of(lucky.values + 3), steady))


def test_the_same_seeds_are_compared_in_pairs_and_others_independently() -> None:
    images = np.random.default_rng(3).normal(17, 1, (50, 1))
    by_seed = np.array([[-0.5, 0.0, 0.5]])
    a, b = seeds_of(images + by_seed + 0.1), seeds_of(images + by_seed)
    paired = compare_pools(a, b)
    assert paired.seeds == (3, 3)
    assert holds_up(paired)  # every seed agrees: 0.1 dB
    independent = compare_pools(a, seeds_of(images + by_seed, (5, 6, 7)))
    assert not holds_up(independent)
    assert independent.interval is not None
    # Student's interval of two means of three values, 4 degrees of freedom
    half = 2.78 * 0.5 * np.sqrt(2 / 3)
    assert (independent.interval.high - independent.interval.low) / 2 == pytest.approx(half, rel=0.1)


def test_one_seed_against_several_draws_only_the_several() -> None:
    images = np.random.default_rng(4).normal(17, 1, (50, 1))
    several, one = seeds_of(images + np.array([[-0.2, 0.0, 0.2]])), seeds_of(images - 1)
    comparison = compare_pools(several, one)
    assert comparison.seeds == (3, 1)
    assert comparison.difference == pytest.approx(1.0)
    assert comparison.interval is not None
    assert comparison.interval.high - comparison.interval.low == pytest.approx(2 * 4.30 * 0.2 / np.sqrt(3), rel=0.2)
    assert compare_all_pools({"several": several, "one": one})["several", "one"].p_corrected == comparison.p


def test_intervals_over_three_seeds_hold_the_truth_as_often_as_they_say() -> None:
    generator = np.random.default_rng(6)
    covered = covered_without_seeds = 0
    for _ in range(150):
        scores = generator.normal(0, 0.3, (40, 1)) + generator.normal(0, 0.1, (1, 3))
        pool = seeds_of(scores + generator.normal(0, 0.1, (40, 3)))
        found, narrow = pool_interval(pool), interval(pool.scores)
        assert found is not None
        assert narrow is not None
        covered += 0.0 in found
        covered_without_seeds += 0.0 in narrow
    assert covered >= 0.90 * 150
    assert covered_without_seeds < 0.88 * 150
