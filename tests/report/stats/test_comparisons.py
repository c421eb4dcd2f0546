"""Paired comparisons equal scipy's and closed forms, and say what they cannot know."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from scipy import stats  # type: ignore[import-untyped]

from inversion.report.stats.comparisons import (
    AllPairs,
    Comparison,
    compare,
    compare_apart,
    compare_pools,
    correct,
    holds_up,
    holm,
    outcome,
    trainings_differ,
)
from inversion.report.stats.intervals import Estimate, Interval
from inversion.report.stats.pools import SeedPool, pool_seeds
from inversion.report.stats.seed_noise import SeedNoise

Array = npt.NDArray[np.float64]
Scored = Callable[..., pd.Series]
PoolOf = Callable[..., SeedPool]
StudyOf = Callable[..., dict[str, SeedPool]]

pytestmark = pytest.mark.filterwarnings("error")

KNOWN = SeedNoise(0.05)


def decided(mean: float, error: float, **changes: object) -> Comparison:
    """A comparison with a known seed noise and 100 images."""
    return replace(Comparison(100, Estimate(mean, error, 99.0), 0.5, noise=KNOWN), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("images", [2, 6, 30, 1000])
def test_p_and_interval_of_two_networks_are_scipys_paired_t_test(images: int, scored: Scored) -> None:
    generator = np.random.default_rng(images)
    a, b = generator.normal(17, 2, (2, images))
    b = a + 0.1 * (b - 17) - 0.02
    expected = stats.ttest_rel(a, b)
    found = compare(scored(a), scored(b))
    assert found.p == pytest.approx(expected.pvalue, rel=1e-6)
    assert found.difference == pytest.approx((a - b).mean())
    assert found.interval is not None
    between = expected.confidence_interval()
    assert (found.interval.low, found.interval.high) == pytest.approx((between.low, between.high), rel=1e-6)


def test_the_seed_noise_widens_the_error_of_a_difference(pool_of: PoolOf) -> None:
    generator = np.random.default_rng(2)
    a, b = pool_of(generator.normal(17, 1, (50, 3))), pool_of(generator.normal(17, 1, 50))
    differences = a.values.mean(axis=1) - b.values[:, 0]
    noise = SeedNoise(0.4, freedom=7.0, configurations=4)
    found = compare_pools(a, b, noise)
    error = math.sqrt(differences.var(ddof=1) / 50 + 0.4**2 / 3 + 0.4**2 / 1)
    assert (a.spread or 0.0) < 0.4
    assert found.seeds == (3, 1)
    assert found.estimate.error == pytest.approx(error, rel=1e-6)
    assert found.p == pytest.approx(2 * stats.t.sf(abs(differences.mean()) / error, 7), rel=1e-6)


def test_a_configuration_that_varies_more_than_the_pool_counts_with_its_own_variance(pool_of: PoolOf) -> None:
    images = np.random.default_rng(3).normal(17, 1, (50, 1))
    steady, wild = pool_of(images + np.array([[0.0, 0.0, 0.0]])), pool_of(images + np.array([[-1.0, 0.0, 1.0]]))
    found = compare_pools(wild, steady, SeedNoise(0.1, 20.0, 10))
    assert found.estimate.error == pytest.approx(math.sqrt(1.0 / 3 + 0.1**2 / 3))


def test_one_seed_of_each_shows_that_trainings_differ_and_never_that_configurations_do(
        study_of: StudyOf) -> None:
    generator = np.random.default_rng(4)
    pools = study_of(generator, 2, 1, gain=1.0)
    unknown = compare_pools(pools["c0"], pools["c1"])
    assert trainings_differ(unknown)
    assert not holds_up(unknown)
    assert outcome(unknown) == "one seed"
    known = compare_pools(pools["c0"], pools["c1"], SeedNoise(0.15))
    assert holds_up(known)
    assert outcome(known) == "yes"
    louder = compare_pools(pools["c0"], pools["c1"], SeedNoise(0.9))
    assert not holds_up(louder)
    assert outcome(louder) == "no"


@pytest.mark.parametrize("images", [1, 2, 5, 6])
def test_fewer_than_six_images_decide_nothing(images: int, scored: Scored, pool_of: PoolOf) -> None:
    values = [1.0 + 0.01 * i for i in range(images)]
    found = compare_pools(pool_of(values), pool_of([0.0] * images), KNOWN)
    assert holds_up(found) == (images >= 6)
    assert trainings_differ(compare(scored(values), scored([0.0] * images))) == (images >= 6)


def test_rounding_in_floating_point_is_no_difference(scored: Scored) -> None:
    found = compare(scored([0.3] * 8), scored([0.1 + 0.2] * 8))
    assert (found.p, found.effect, found.difference) == (1.0, 0.0, 0.0)


def test_the_effect_is_the_favourable_minus_the_unfavourable_share_of_ranks(scored: Scored) -> None:
    def effect(differences: list[float]) -> float:
        return compare(scored(differences), scored([0.0] * len(differences))).effect

    # ranks 1 2 3 4 5, of which 2 is unfavourable: (13 - 2) / 15
    assert effect([0.1, -0.2, 0.3, 0.4, 0.5]) == pytest.approx(11 / 15)
    # without the zero, ranks 1.5 1.5 3 4, of which 1.5 is unfavourable: (8.5 - 1.5) / 10
    assert effect([1.0, -1.0, 0.0, 2.0, 3.0]) == pytest.approx(0.7)
    assert (effect([0.1, 0.2]), effect([-0.1, -0.2]), effect([0.0, 0.0])) == (1.0, -1.0, 0.0)


def test_identical_runs_do_not_differ(study_of: StudyOf) -> None:
    pool = study_of(np.random.default_rng(0), 1, 3)["c0"]
    found = compare_pools(pool, pool, SeedNoise(0.0, 2.0, 1))
    assert (found.difference, found.p, found.effect) == (0.0, 1.0, 0.0)
    assert AllPairs({"a": pool, "b": pool}).get("a", "b").p == 1.0


def test_a_single_image_shows_a_difference_and_nothing_more(scored: Scored) -> None:
    found = compare(scored([2.5]), scored([0.0]))
    assert (found.difference, found.p, found.interval, found.simultaneous) == (2.5, 1.0, None, None)
    assert not trainings_differ(found)


def test_the_same_difference_on_every_image_has_no_width(scored: Scored) -> None:
    found = compare(scored([0.25] * 20), scored([0.0] * 20))
    assert (found.interval, found.p) == (Interval(0.25, 0.25), 0.0)


def test_images_are_paired_by_name_and_their_order_does_not_matter(scored: Scored) -> None:
    generator = np.random.default_rng(5)
    a, b = scored(generator.normal(17, 1, 40)), scored(generator.normal(17, 1, 40))
    shuffled = b.sample(frac=1, random_state=3)
    assert list(shuffled.index) != list(b.index)
    assert compare(a, shuffled) == compare(a, b)


@pytest.mark.parametrize("images", [2, 7, 100])
def test_exchanging_both_turns_the_sign_alone(images: int, study_of: StudyOf) -> None:
    pools = study_of(np.random.default_rng(6), 2, 2, images=images)
    forth, back = (compare_pools(pools[a], pools[b], KNOWN) for a, b in (("c0", "c1"), ("c1", "c0")))
    turned = forth.reversed()
    assert forth.difference != 0
    assert (back.difference, back.effect, back.p) == pytest.approx((turned.difference, turned.effect, turned.p))
    assert back.interval is not None
    assert turned.interval is not None
    assert (back.interval.low, back.interval.high) == pytest.approx((turned.interval.low, turned.interval.high))


def test_pairing_finds_what_the_spread_over_images_would_hide(scored: Scored) -> None:
    generator = np.random.default_rng(5)
    a = 17 + generator.normal(0, 1.7, 100)
    b = a - 0.14 + generator.normal(0, 0.2, 100)  # far below 0.5 dB, and below the images' 1.7 dB
    assert trainings_differ(compare(scored(a), scored(b)))
    assert stats.ttest_ind(a, b).pvalue > 0.05


@pytest.mark.parametrize(("a", "b", "message"), [
    ([1, 2], [1, 2, 3], "a and b were scored on different images"),
    ([1, 2], [1, np.nan], r"score of image '001\.png' is not finite"),
    ([1, 2], [1, np.inf], "not finite"),
    ([], [], "no image"),
])
def test_scores_that_cannot_be_paired_are_refused(a: list[float], b: list[float], message: str, scored: Scored) -> None:
    with pytest.raises(ValueError, match=message):
        compare(scored(a), scored(b))


def test_an_image_that_occurs_twice_is_refused(scored: Scored) -> None:
    with pytest.raises(ValueError, match=r"'000\.png' occurs twice"):
        compare(scored([1]), pd.Series([1.0, 2.0], ["000.png", "000.png"]))


def test_holm_by_hand() -> None:
    # sorted: 0.005·4, 0.01·3, 0.03·2, and 0.04·1 raised to the one before it
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.6, 0.7])).tolist() == [1.0, 1.0]
    assert holm(np.array([])).tolist() == []


def test_a_family_is_corrected_together_and_its_intervals_hold_together() -> None:
    alone = {key: decided(mean, 0.1) for key, mean in (("a", 0.26), ("b", 0.21), ("c", 0.5))}
    corrected = correct(alone)
    expected = holm(np.array([item.p for item in alone.values()]))
    assert [item.p for item in corrected.values()] == pytest.approx(expected.tolist())
    assert {key: holds_up(item) for key, item in corrected.items()} == {"a": True, "b": True, "c": True}
    assert holds_up(alone["b"])
    assert corrected["a"].family == 3
    half = stats.t.ppf(1 - 0.05 / 2 / 3, 99) * 0.1
    assert corrected["a"].simultaneous is not None
    assert corrected["a"].simultaneous.high == pytest.approx(0.26 + half)
    assert corrected["a"].interval == alone["a"].interval
    assert alone["a"].simultaneous == alone["a"].interval
    assert correct({}) == {}


def test_a_difference_that_is_significant_alone_need_not_hold_up_in_a_family() -> None:
    family = correct({number: decided(0.21, 0.1) for number in range(3)})
    assert holds_up(decided(0.21, 0.1))
    assert not any(map(holds_up, family.values()))


@pytest.mark.parametrize("noise", [None, SeedNoise(0.1, 8.0, 4)], ids=["unknown", "known"])
def test_all_pairs_are_each_pair_corrected_for_all(noise: SeedNoise | None, study_of: StudyOf) -> None:
    pools = study_of(np.random.default_rng(8), 5, 3, images=30, gain=5.0)
    pairs = AllPairs(pools, noise)
    found = pairs.among(list(pools))
    assert list(found) == list(itertools.combinations(pools, 2))
    alone = {pair: compare_pools(pools[pair[0]], pools[pair[1]], noise) for pair in found}
    expected = holm(np.array([item.p for item in alone.values()]))
    assert [item.p for item in found.values()] == pytest.approx(expected.tolist(), rel=1e-6)
    for pair, item in found.items():
        assert item.family == pairs.family == 10
        assert item.estimate == alone[pair].estimate
        assert trainings_differ(item) or "c0" not in pair
        assert pairs.get(*pair[::-1]).p == item.p


def test_one_configuration_or_none_has_no_pairs(study_of: StudyOf) -> None:
    pools = study_of(np.random.default_rng(0), 1, 2)
    assert AllPairs(pools).among(["c0"]) == {}
    assert AllPairs({}).family == 0


def test_configurations_of_different_images_have_no_pairs(scored: Scored, pool_of: PoolOf) -> None:
    with pytest.raises(ValueError, match="x and z were scored on different images"):
        AllPairs({"x": pool_of([1.0, 2.0]), "y": pool_of([1.0, 2.0]), "z": pool_of([1.0, 2.0, 3.0])})


def test_the_whole_study_is_compared_within_seconds(study_of: StudyOf) -> None:
    pools = study_of(np.random.default_rng(9), 44, 3)
    start = time.process_time()
    assert len(AllPairs(pools, KNOWN).among(list(pools))) == 946
    assert time.process_time() - start < 10


@pytest.mark.parametrize("counts", [(40, 25), (6, 90)])
def test_different_images_are_compared_as_scipy_s_welch_test_does(counts: tuple[int, int]) -> None:
    chance = np.random.default_rng(3)
    a, b = (pd.Series(chance.normal(25 - number, 1 + number, count), [f"{number}/{index}" for index in range(count)])
            for number, count in enumerate(counts))
    found = compare_apart(pool_seeds({0: a}), pool_seeds({0: b}))
    welch = stats.ttest_ind(a, b, equal_var=False)
    low, high = welch.confidence_interval()
    assert found.difference == pytest.approx(a.mean() - b.mean())
    assert found.p == pytest.approx(welch.pvalue)
    assert found.interval is not None
    assert [found.interval.low, found.interval.high] == pytest.approx([low, high])
    assert found.images == min(counts)
    assert not found.is_paired
    noisy = compare_apart(pool_seeds({0: a}), pool_seeds({0: b}), SeedNoise(0.5))
    assert noisy.estimate.error**2 == pytest.approx(found.estimate.error**2 + 2 * 0.5**2)
