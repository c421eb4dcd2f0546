"""Bootstrap intervals equal scipy's and Student's where they should, and hold the truth as often as they say."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from scipy import stats  # type: ignore[import-untyped]

from inversion.report.stats.intervals import (
    RESAMPLES,
    interval,
    resample_counts,
    resampled_means,
    stretched_percentiles,
)

Array = npt.NDArray[np.float64]

pytestmark = pytest.mark.filterwarnings("error")


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_an_interval_is_scipys_percentile_interval_stretched(level: float) -> None:
    values = np.random.default_rng(7).exponential(1.0, 40)
    low, high = stats.bootstrap((values,), np.mean, confidence_level=level, method="percentile", n_resamples=40_000,
                                rng=np.random.default_rng(8)).confidence_interval
    tail = (1 + level) / 2
    stretch = stats.t.ppf(tail, 39) / stats.norm.ppf(tail) * np.sqrt(40 / 39)
    mean = values.mean()
    ours = interval(values.tolist(), level)
    assert ours is not None
    width = high - low
    assert ours.low == pytest.approx(mean + stretch * (low - mean), abs=0.03 * width)
    assert ours.high == pytest.approx(mean + stretch * (high - mean), abs=0.03 * width)
    assert ours.high - mean > mean - ours.low  # the skew of the data stays


def test_an_interval_of_normal_values_is_students() -> None:
    for n in (10, 30, 100):
        values = stats.norm.ppf((np.arange(n) + 0.5) / n)
        half = stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / np.sqrt(n)
        ours = interval(values.tolist())
        assert ours is not None
        assert (ours.low, ours.high) == pytest.approx((-half, half), rel=0.05)


def test_an_interval_of_one_value_is_none_and_of_identical_ones_has_no_width() -> None:
    assert interval([3.0]) is None
    for value in (2.0, 0.1):
        found = interval([value] * 7)
        assert found is not None
        assert found.low == found.high == pytest.approx(value)


def test_an_interval_does_not_depend_on_the_order_of_values() -> None:
    values = [3.0, 1.0, 2.0, 7.0]
    assert interval(values) == interval(values[::-1]) == interval(pd.Series(values))


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0])
def test_a_level_that_is_none_is_refused(level: float) -> None:
    with pytest.raises(ValueError, match=r"between 0 and 1"):
        interval([1.0, 2.0], level)


@pytest.mark.parametrize(("n", "plain_covers"), [(3, 0.80), (10, 0.925), (50, 1.0)])
def test_95_percent_intervals_of_normal_scores_hold_the_truth_95_times_in_100(n: int, plain_covers: float) -> None:
    generator = np.random.default_rng(11)
    samples = generator.normal(0, 1, (n, 1000))
    resampled = generator.multinomial(n, np.full(n, 1 / n), 3000) / n @ samples
    variances = samples.var(axis=0, ddof=1)[None] / n
    low, high = stretched_percentiles(resampled, samples.mean(axis=0), variances, np.full((1, 1000), float(n)), 0.95)
    assert 0.925 <= ((low <= 0) & (high >= 0)).mean() <= 0.975
    plain_low, plain_high = np.quantile(resampled, [0.025, 0.975], axis=0)
    assert ((plain_low <= 0) & (plain_high >= 0)).mean() < plain_covers


def test_converting_few_resamples_at_a_time_changes_nothing() -> None:
    scores = np.random.default_rng(3).normal(20, 2, (70, 2))
    whole = resampled_means(scores, (0, 1))
    assert resampled_means(scores, (0, 1), block=1000) == pytest.approx(whole, rel=1e-12)


def test_the_counts_that_are_kept_take_a_byte_each() -> None:
    counts = resample_counts(400, 1)
    assert counts.nbytes == 400 * RESAMPLES
    assert set(counts.sum(axis=1, dtype=int)) == {400}
