"""Intervals are Student's, and hold the truth as often as they say."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats  # type: ignore[import-untyped]

from inversion.report.stats.intervals import pool_interval
from inversion.report.stats.pools import SeedPool
from inversion.report.stats.seed_noise import measure_seed_noise

PoolOf = Callable[..., SeedPool]
StudyOf = Callable[..., dict[str, SeedPool]]

pytestmark = pytest.mark.filterwarnings("error")


@pytest.mark.parametrize("level", [0.8, 0.95])
@pytest.mark.parametrize("images", [2, 10, 100])
def test_an_interval_over_images_is_scipys(images: int, level: float, pool_of: PoolOf) -> None:
    values = np.random.default_rng(7).exponential(1.0, images)
    low, high = stats.ttest_1samp(values, 0).confidence_interval(level)
    ours = pool_interval(pool_of(values), level=level)
    assert ours is not None
    assert (ours.low, ours.high) == pytest.approx((low, high))


def test_an_interval_of_one_image_is_none_and_of_identical_ones_has_no_width(pool_of: PoolOf) -> None:
    assert pool_interval(pool_of([3.0])) is None
    for value in (2.0, 0.1):
        found = pool_interval(pool_of([value] * 7))
        assert found is not None
        assert found.low == found.high == pytest.approx(value)


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0])
def test_a_level_that_is_none_is_refused(level: float, pool_of: PoolOf) -> None:
    with pytest.raises(ValueError, match=r"between 0 and 1"):
        pool_interval(pool_of([1.0, 2.0]), level=level)


def test_seeds_that_disagree_widen_the_interval(pool_of: PoolOf) -> None:
    images = np.random.default_rng(1).normal(17, 0.1, (100, 1))
    pool = pool_of(images + np.array([[-0.5, 0.0, 0.5]]))
    over_images, over_both = pool_interval(pool), pool_interval(pool, measure_seed_noise([pool]))
    assert over_images is not None
    assert over_both is not None
    assert over_images.high - over_images.low == pytest.approx(2 * 1.98 * 0.1 / 10, rel=0.2)
    # Student's interval of three values: 4.30 standard errors, 0.5/√3 each
    assert over_both.high - over_both.low == pytest.approx(2 * 4.30 * 0.5 / np.sqrt(3), rel=0.01)


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_intervals_over_a_few_seeds_hold_the_truth_at_least_as_often_as_they_say(seeds: int, study_of: StudyOf) -> None:
    generator = np.random.default_rng(seeds)
    covered = covered_without_seeds = 0
    studies = 60
    for _ in range(studies):
        difficulty = generator.normal(0, 2, (100, 1))
        pools = {name: SeedPool(pool.table - pool.table.to_numpy().mean(axis=1, keepdims=True) + 17 + difficulty
                                + generator.normal(0, 0.15, (1, seeds)))
                 for name, pool in study_of(generator, 4, seeds).items()}
        noise = measure_seed_noise(pools.values())
        found, narrow = pool_interval(pools["c0"], noise), pool_interval(pools["c0"])
        assert found is not None
        assert narrow is not None
        covered += 17.0 in found
        covered_without_seeds += 17.0 in narrow
    assert covered >= 0.88 * studies
    assert covered >= covered_without_seeds
