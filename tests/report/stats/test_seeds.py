"""Several seeds of a configuration: averaged for each image, and pooled over configurations for their noise."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from inversion.report.stats.pools import SeedPool, pool_seeds
from inversion.report.stats.seed_noise import SeedNoise, describe_noise, measure_seed_noise

PoolOf = Callable[..., SeedPool]
Scored = Callable[..., pd.Series]

pytestmark = pytest.mark.filterwarnings("error")


def test_seeds_are_averaged_for_each_image(scored: Scored) -> None:
    pool = pool_seeds({2: scored([3.0, 5.0]), 0: scored([1.0, 3.0]), 1: scored([2.0, 1.0])[::-1]})
    assert pool.seeds == (0, 1, 2)
    assert pool.scores.to_list() == [2.0, 3.0]
    assert pool.mean == 2.5
    assert pool.seed_means.to_dict() == {0: 2.0, 1: 1.5, 2: 4.0}
    assert pool.spread == pytest.approx(np.std([2.0, 1.5, 4.0], ddof=1))


def test_one_seed_says_nothing_about_the_spread_of_trainings(pool_of: PoolOf) -> None:
    pool = pool_of([1.0, 2.0, 3.0], seeds=(7,))
    assert (pool.n, pool.spread) == (1, None)
    assert measure_seed_noise([pool, pool]) is None


@pytest.mark.parametrize(("frames", "message"), [
    ({}, "no seeds to pool"),
    ({0: [1, 2], 1: [1, 2, 3]}, "seeds 0 and 1 were scored on different images"),
    ({0: [1, 2], 1: [1, np.nan]}, "seed 1: the score of image"),
])
def test_seeds_that_do_not_belong_together_are_refused(
        frames: dict[int, list[float]], message: str, scored: Scored) -> None:
    with pytest.raises(ValueError, match=message):
        pool_seeds({seed: scored(values) for seed, values in frames.items()})


def test_the_noise_is_the_pooled_variance_of_the_configurations_with_seeds(pool_of: PoolOf) -> None:
    images = np.random.default_rng(0).normal(17, 1, (20, 1))
    two, four = pool_of(images + np.array([[0.0, 0.2]])), pool_of(images + np.array([[0.0, 0.1, 0.3, 0.4]]))
    noise = measure_seed_noise([two, pool_of(images), four])
    squares = 0.1**2 * 2 + sum((value - 0.2) ** 2 for value in (0.0, 0.1, 0.3, 0.4))
    assert noise is not None
    assert noise.sd == pytest.approx(math.sqrt(squares / 4))
    assert (noise.freedom, noise.configurations) == (4.0, 2)


def test_the_noise_of_a_mean_is_pooled_or_the_configurations_own_if_that_is_larger(pool_of: PoolOf) -> None:
    images = np.zeros((20, 1))
    noise = SeedNoise(0.2)
    assert noise.variance_of_mean(pool_of(images)) == pytest.approx(0.04)
    assert noise.variance_of_mean(pool_of(images + np.array([[0.0, 0.1]]))) == pytest.approx(0.04 / 2)
    assert noise.variance_of_mean(pool_of(images + np.array([[0.0, 1.0]]))) == pytest.approx(0.5 / 2)


def test_a_configuration_with_few_seeds_is_taken_to_be_noisier_than_the_others(pool_of: PoolOf) -> None:
    """As if one more training of it had shown twice the pooled standard deviation."""
    images = np.random.default_rng(0).normal(17, 1, (20, 1))
    one, two = pool_of(images), pool_of(images + np.array([[0.0, 0.4]]))
    many = [pool_of(images + spread * np.array([[-1.0, 0.0, 1.0]])) for spread in (0.1, 0.2)]
    noise = measure_seed_noise([*many, two, one])
    assert noise is not None
    pooled = (2 * 0.01 + 2 * 0.04 + 0.08) / 5
    assert noise.sd**2 == pytest.approx(pooled)
    assert noise.seeds == 3
    assert noise.variance_of_training(one) == pytest.approx(4 * pooled)
    assert noise.variance_of_training(two) == pytest.approx((0.08 + 4 * pooled) / 2)
    assert noise.variance_of_training(one.as_if(2)) == pytest.approx((pooled + 4 * pooled) / 2)
    assert noise.variance_of_training(one.as_if(3)) == pytest.approx(pooled)
    assert noise.variance_of_training(many[0]) == pytest.approx(pooled)
    assert SeedNoise(0.2).variance_of_training(one) == pytest.approx(0.04)
    loudest = replace(noise, largest=1.0)
    assert loudest.variance_of_training(one) == 1
    assert loudest.variance_of_training(two) == pytest.approx((0.08 + 4 * pooled) / 2)


@pytest.mark.parametrize(("counts", "few"), [
    ((2, 2, 2, 2, 3), ()), ((2, 2, 3, 3), (2,)), ((1, 1, 1, 2), (1,)), ((1, 3, 5), (1, 3)), ((3, 3, 5, 5, 5), (3,))])
def test_few_seeds_are_fewer_than_those_that_the_noise_was_measured_on(
        counts: tuple[int, ...], few: tuple[int, ...], pool_of: PoolOf) -> None:
    chance = np.random.default_rng(0)
    pools = [pool_of(chance.normal(17, 1, (20, count))) for count in counts]
    noise = measure_seed_noise(pools)
    assert noise is not None
    assert {pool.n for pool in pools if noise.has_few_seeds(pool)} == set(few)
    planned = noise.planned([pool.as_if(5) for pool in pools])
    assert (planned.sd, planned.freedom, planned.seeds) == (noise.sd, 4.0 * len(counts), 5)


def test_what_is_not_trained_has_no_seed_noise(pool_of: PoolOf) -> None:
    assert SeedNoise(0.2).variance_of_mean(replace(pool_of(np.zeros(20)), is_trained=False)) == 0


def test_a_pool_can_be_reckoned_with_as_if_it_had_more_seeds(pool_of: PoolOf) -> None:
    pool = pool_of(np.zeros((20, 1)) + np.array([[0.0, 1.0]]))
    more = pool.as_if(5)
    assert (more.n, more.mean, more.spread) == (5, pool.mean, pool.spread)
    assert SeedNoise(0.2).variance_of_mean(more) == pytest.approx(0.5 / 5)
    assert pool.as_if(1).n == 2


def test_where_the_noise_is_from_is_said() -> None:
    assert describe_noise(SeedNoise(0.12)) == "seed noise 0.12 dB, given"
    assert describe_noise(SeedNoise(0.1234, 12.0, 6)) == "seed noise 0.12 dB, measured on 6 configurations"
    assert describe_noise(SeedNoise(0.1234, 2.0, 1)) == "seed noise 0.12 dB, measured on 1 configuration"
