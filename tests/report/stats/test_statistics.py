"""The statistics equal scipy's, hand-worked values and closed forms, and say what they cannot know."""

from __future__ import annotations

import itertools
import time

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from scipy import stats  # type: ignore[import-untyped]

from inversion.report.stats.comparisons import Comparison, compare, compare_all, correct, holds_up
from inversion.report.stats.intervals import Interval

Array = npt.NDArray[np.float64]


pytestmark = pytest.mark.filterwarnings("error")


def scored(values: Array | list[float]) -> pd.Series:
    """Scores of images called 000, 001, …"""
    return pd.Series(np.asarray(values, float), [f"{i:03}.png" for i in range(len(values))])


def photographs(n: int, columns: int = 2, seed: int = 0) -> pd.DataFrame:
    """Scores that share the images' difficulty, as PSNR does."""
    generator = np.random.default_rng(seed)
    values = 17 + generator.normal(0, 2, (n, 1)) + generator.normal(0, 0.3, (n, columns))
    return pd.DataFrame({f"c{i:02}": scored(values[:, i]) for i in range(columns)})


def against_zero(differences: Array | list[float]) -> Comparison:
    """A comparison with these differences, to the digit."""
    return compare(scored(differences), scored([0.0] * len(differences)))


@pytest.mark.parametrize("n", [1, 2, 5, 6, 12, 50])
def test_p_of_a_few_images_is_scipys_exact_one(n: int) -> None:
    differences = np.random.default_rng(n).normal(0.2, 1, n)
    assert against_zero(differences).p == pytest.approx(stats.wilcoxon(differences, method="exact").pvalue, rel=1e-12)


@pytest.mark.parametrize("n", [51, 100, 1000])
def test_p_of_many_images_is_scipys_with_ties_and_zeros(n: int) -> None:
    drawn = np.random.default_rng(n).normal(0.1, 1, 2 * n).round(1)
    differences = drawn[drawn != 0][:n]
    assert len(np.unique(np.abs(differences))) < n
    expected = stats.wilcoxon(differences, method="asymptotic").pvalue
    assert against_zero(np.append(differences, np.zeros(20))).p == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("differences", [
    [1.0, 1.0, 1.0, 2.0, -1.0, -2.0, 3.0],
    [0.5, 0.5, -0.5, 0.0, 0.0, 1.0, 1.0, 1.0],
    [0.3, 0.3],
    [2.0, -2.0],
])
def test_p_of_ties_counts_every_way_to_throw_the_signs(differences: list[float]) -> None:
    sizes = np.abs([difference for difference in differences if difference])
    ranks = stats.rankdata(sizes)
    observed = abs(np.sign([d for d in differences if d]) @ ranks)
    thrown = [abs(np.array(signs) @ ranks) for signs in itertools.product((-1, 1), repeat=len(ranks))]
    expected = np.mean([value >= observed - 1e-9 for value in thrown])
    assert against_zero(differences).p == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.parametrize(("n", "p"), [(1, 1.0), (2, 0.5), (3, 0.25), (4, 0.125), (5, 0.0625), (6, 0.03125)])
def test_no_five_images_can_show_that_a_difference_is_real(n: int, p: float) -> None:
    comparison = against_zero([1.0 + 0.01 * i for i in range(n)])
    assert comparison.p == p  # 2 / 2^n: all signs alike
    assert holds_up(comparison) == (n >= 6)


def test_rounding_in_floating_point_is_no_difference() -> None:
    assert against_zero([1e-15, -1e-15, 2e-15, 1e-14, 1e-15, 1e-15, 1e-15, 1e-15]).p == 1.0
    untied = against_zero([0.3, 0.1 + 0.2, -0.3, 0.3, 0.3, 0.3])
    tied = against_zero([0.3, 0.3, -0.3, 0.3, 0.3, 0.3])
    assert (untied.p, untied.effect) == (tied.p, tied.effect)


def test_the_effect_is_the_favourable_less_the_unfavourable_share_of_ranks() -> None:
    # ranks 1 2 3 4 5, of which 2 is unfavourable: (13 - 2) / 15
    assert against_zero([0.1, -0.2, 0.3, 0.4, 0.5]).effect == pytest.approx(11 / 15)
    # without the zero, ranks 1.5 1.5 3 4, of which 1.5 is unfavourable: (8.5 - 1.5) / 10
    assert against_zero([1.0, -1.0, 0.0, 2.0, 3.0]).effect == pytest.approx(0.7)
    assert against_zero([0.1, 0.2]).effect == 1.0
    assert against_zero([-0.1, -0.2]).effect == -1.0


def test_identical_runs_do_not_differ() -> None:
    scores = photographs(30)["c00"]
    assert compare(scores, scores.copy()) == Comparison(30, 0.0, Interval(0.0, 0.0), 1.0, 0.0)
    assert not holds_up(compare(scores, scores))


def test_a_single_image_shows_a_difference_and_nothing_more() -> None:
    comparison = against_zero([2.5])
    assert comparison == Comparison(images=1, difference=2.5, interval=None, p=1.0, effect=1.0)
    assert not holds_up(comparison)


def test_the_same_difference_on_every_image_has_no_width() -> None:
    comparison = against_zero([0.25] * 20)
    assert comparison.interval == Interval(0.25, 0.25)
    assert holds_up(comparison)


def test_images_are_paired_by_name_and_their_order_does_not_matter() -> None:
    frame = photographs(40)
    shuffled = frame["c01"].sample(frac=1, random_state=3)
    assert list(shuffled.index) != list(frame.index)
    assert compare(frame["c00"], shuffled) == compare(frame["c00"], frame["c01"])
    assert compare_all(frame.sample(frac=1, random_state=4)) == compare_all(frame)


@pytest.mark.parametrize("n", [2, 7, 100])
def test_exchanging_both_turns_the_sign_alone(n: int) -> None:
    frame = photographs(n)
    forth, back = compare(frame["c00"], frame["c01"]), compare(frame["c01"], frame["c00"])
    assert forth.difference != 0
    turned = forth.reversed()
    assert (back.difference, back.effect, back.p) == (turned.difference, turned.effect, turned.p)
    assert back.interval is not None
    assert turned.interval is not None
    assert (back.interval.low, back.interval.high) == pytest.approx((turned.interval.low, turned.interval.high))
    assert holds_up(back) == holds_up(forth)


def test_pairing_finds_what_the_spread_over_images_would_hide() -> None:
    generator = np.random.default_rng(5)
    a = 17 + generator.normal(0, 1.7, 100)
    b = a - 0.14 + generator.normal(0, 0.2, 100)  # far below 0.5 dB, and below the images' 1.7 dB
    assert holds_up(compare(scored(a), scored(b)))
    assert stats.ttest_ind(a, b).pvalue > 0.05


@pytest.mark.parametrize(("a", "b", "message"), [
    (scored([1, 2]), scored([1, 2, 3]), "a and b were scored on different images"),
    (scored([1, 2]), scored([1, np.nan]), r"score of image '001\.png' is not finite"),
    (scored([1, 2]), scored([1, np.inf]), "not finite"),
    (scored([1]), pd.Series([1.0, 2.0], ["000.png", "000.png"]), r"'000\.png' occurs twice"),
    (scored([]), scored([]), "no image"),
])
def test_scores_that_cannot_be_paired_are_refused(a: pd.Series, b: pd.Series, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compare(a, b)


def test_holm_by_hand() -> None:
    def alone(p: float) -> Comparison:
        return Comparison(100, 1.0, Interval(0.5, 1.5), p, 0.5)

    # sorted: 0.005·4, 0.01·3, 0.03·2, and 0.04·1 raised to the one before it
    corrected = correct({"a": alone(0.01), "b": alone(0.04), "c": alone(0.03), "d": alone(0.005)})
    assert {key: value.p_corrected for key, value in corrected.items()} == pytest.approx(
        {"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})
    assert [key for key, value in corrected.items() if holds_up(value)] == ["a", "d"]
    assert holds_up(alone(0.04))  # on its own it would have
    assert [value.p_corrected for value in correct({1: alone(0.6), 2: alone(0.7)}).values()] == [1.0, 1.0]
    assert correct({}) == {}


def test_a_difference_holds_up_only_if_its_interval_leaves_out_zero() -> None:
    assert not holds_up(Comparison(100, 1.0, Interval(-0.1, 2.1), 0.001, 0.5))
    assert not holds_up(Comparison(100, 1.0, Interval(0.0, 2.0), 0.001, 0.5))
    assert not holds_up(Comparison(100, 1.0, Interval(0.1, 2.0), 0.05, 0.5))
    assert not holds_up(Comparison(100, 1.0, Interval(0.1, 2.0), 0.001, 0.5, p_corrected=0.2))


def test_every_pair_is_compared_and_corrected_for_all_of_them() -> None:
    frame = photographs(30, columns=4)
    frame["c00"] += 5
    pairs = compare_all(frame)
    assert list(pairs) == list(itertools.combinations(frame.columns, 2))
    p = np.array([comparison.p for comparison in pairs.values()])
    for (a, b), comparison in pairs.items():
        alone = compare(frame[a], frame[b])
        assert alone.p_corrected is None
        assert (comparison.p, comparison.effect) == (alone.p, alone.effect)
        assert comparison.difference == pytest.approx(alone.difference)
        assert comparison.p_corrected is not None
        assert comparison.p_corrected >= comparison.p
        assert holds_up(comparison) == (a == "c00")
    assert min(comparison.p_corrected or 0 for comparison in pairs.values()) == pytest.approx(6 * p.min())


def test_equal_configurations_are_rarely_told_apart() -> None:
    wrong = sum(any(map(holds_up, compare_all(photographs(20, 5, seed)).values())) for seed in range(40))
    assert wrong <= 5  # in 40 studies without a difference, 2 are to be expected at most


def test_one_configuration_or_none_has_no_pairs() -> None:
    assert compare_all(photographs(5, columns=1)) == {}
    assert compare_all(pd.DataFrame()) == {}


def test_the_whole_study_is_compared_within_seconds() -> None:
    frame = photographs(100, columns=44)
    start = time.process_time()
    assert len(compare_all(frame)) == 946
    assert time.process_time() - start < 10
