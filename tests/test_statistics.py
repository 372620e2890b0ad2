"""Summaries, t tests and corrections beside those of scipy, and values that break formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from dltrain.statistics import (
    MeanDifference,
    Summary,
    difference,
    holm,
    paired_difference,
    summarize,
    t_cdf,
    t_critical,
    t_quantile,
    t_two_sided,
    welch_difference,
)

SIZES = (2, 3, 4, 5, 10, 30, 100, 200)


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.9, 0.02, shape)


def test_quantiles_are_those_of_scipy() -> None:
    for n in range(2, 201):
        for probability in (0.025, 0.5, 0.9, 0.975, 0.9999):
            expected = stats.t.ppf(probability, n - 1)
            assert t_quantile(probability, n - 1) == pytest.approx(expected, rel=1e-10, abs=1e-10)


@pytest.mark.parametrize("df", [1, 1.3, 2, 7.7, 199, 10_000])
def test_tails_are_those_of_scipy(df: float) -> None:
    """Also far out, where 1 minus the distribution function would be 0."""
    for t in (0.0, 1e-9, 0.1, 1.0, 2.5, 12.0, 300.0):
        assert t_two_sided(t, df) == pytest.approx(2 * stats.t.sf(t, df), rel=1e-9, abs=1e-300)
        assert t_cdf(-t, df) == pytest.approx(stats.t.cdf(-t, df), rel=1e-9, abs=1e-300)
        assert t_cdf(t, df) == pytest.approx(stats.t.cdf(t, df), rel=1e-9)
    assert t_two_sided(1e200, df) == 0.0


@pytest.mark.parametrize("probability", [0, 1, -0.1, 1.1, math.nan])
def test_a_quantile_needs_a_probability(probability: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        t_quantile(probability, 3)


@pytest.mark.parametrize("n", SIZES)
def test_a_summary_is_that_of_scipy(n: int) -> None:
    values = drawn(n)
    summary = summarize(values.tolist())
    low, high = stats.t.interval(0.95, n - 1, loc=values.mean(), scale=stats.sem(values))
    assert summary.n == n
    assert summary.mean == pytest.approx(values.mean())
    assert summary.std == pytest.approx(values.std(ddof=1))
    assert (summary.low, summary.high) == pytest.approx((low, high))


def test_a_summary_of_few_values() -> None:
    assert summarize([]) == Summary(0)
    assert summarize([0.5]) == Summary(1, 0.5)
    assert summarize([0.5]).low is summarize([0.5]).high is None
    assert summarize([0.5, 0.5]) == Summary(2, 0.5, 0.0)  # an interval of width 0 is no interval
    rounded = summarize([0.5, 0.5 + 3e-8])
    assert rounded.half_width is rounded.low is rounded.high is None


def test_values_that_are_no_numbers_do_not_count() -> None:
    values = [0.5, None, math.nan, 0.7, math.inf, -math.inf]
    assert summarize(values) == summarize([0.5, 0.7])
    scores = dict(enumerate(values))
    assert difference(scores, {0: 0.4, 3: 0.5}) == difference({0: 0.5, 3: 0.7}, {0: 0.4, 3: 0.5})


def test_huge_values_do_not_overflow() -> None:
    summary = summarize([1e308, -1e308, 1e308])
    assert summary.mean == pytest.approx(1e308 / 3)
    result = welch_difference([1e300, 2e300], [-1e300, 0.0])
    assert result is not None
    assert result.p == pytest.approx(stats.ttest_ind([1, 2], [-1, 0], equal_var=False).pvalue)


@pytest.mark.parametrize("n", SIZES)
def test_a_paired_test_is_that_of_scipy(n: int) -> None:
    first, second = drawn(2, n)
    result = paired_difference(list(zip(first.tolist(), second.tolist(), strict=True)))
    expected = stats.ttest_rel(first, second)
    assert result is not None
    assert (result.n, result.is_paired) == ((n, n), True)
    assert result.value == pytest.approx(first.mean() - second.mean())
    assert result.p == pytest.approx(expected.pvalue, rel=1e-9)
    interval = expected.confidence_interval(0.95)
    assert result.half_width == pytest.approx((interval.high - interval.low) / 2)


@pytest.mark.parametrize("sizes", [(2, 2), (2, 9), (5, 3), (40, 200)], ids=str)
def test_welchs_test_is_that_of_scipy(sizes: tuple[int, int]) -> None:
    first, second = drawn(sizes[0]), 3 * drawn(sizes[1], seed=1)
    result = welch_difference(first.tolist(), second.tolist())
    expected = stats.ttest_ind(first, second, equal_var=False)
    assert result is not None
    assert (result.n, result.is_paired) == (sizes, False)
    assert result.p == pytest.approx(expected.pvalue, rel=1e-9)
    interval = expected.confidence_interval(0.95)
    assert result.half_width == pytest.approx((interval.high - interval.low) / 2)


def test_the_interval_of_folds_is_wider() -> None:
    """Corrected resampled t test: the variance of the mean is s^2 (1 / k + 1 / (k - 1))."""
    values = [0.8, 0.9, 0.85, 0.87, 0.91]
    plain, folds = summarize(values), summarize(values, overlap=1 / 4)
    assert folds.half_width == pytest.approx(plain.half_width * math.sqrt(1 + 5 / 4))
    pairs = [(value, value - 0.01 * i) for i, value in enumerate(values)]
    result = paired_difference(pairs, overlap=1 / 4)
    differences = np.array([one - other for one, other in pairs])
    t = differences.mean() / (differences.std(ddof=1) * math.sqrt(1 / 5 + 1 / 4))
    assert result is not None
    assert result.p == pytest.approx(2 * stats.t.sf(t, 4))


@pytest.mark.parametrize(
    ("first", "second", "n"),
    [
        (range(5), range(5), 5),
        (range(5), range(1, 4), 3),
        (range(5), range(2, 7), 3),  # three of five
        (range(20), (0, 1), 2),
        (range(4), range(2, 6), None),  # a half is too few
        (range(5), range(5, 10), None),
        (range(5), (0,), None),
    ],
    ids=str,
)
def test_seeds_are_paired_if_most_of_them_are_the_same(first, second, n: int | None) -> None:
    result = difference(
        {s: 0.9 + 0.01 * s % 0.03 for s in first}, {s: 0.1 * s % 0.7 for s in second}
    )
    assert result is not None
    assert result.is_paired == (n is not None)
    assert result.n == ((n, n) if n else (len(first), len(second)))


def test_pairs_see_what_means_do_not() -> None:
    """The same difference in five seeds that vary much more than that."""
    one = {0: 0.50, 1: 0.61, 2: 0.72, 3: 0.80, 4: 0.93}
    other = {seed: value - 0.02 + 0.002 * (seed % 3) for seed, value in one.items()}
    paired = difference(one, other)
    apart = difference(one, {seed + 5: value for seed, value in other.items()})
    assert paired is not None
    assert apart is not None
    assert paired.p is not None
    assert apart.p is not None
    assert paired.p < 0.001 < 0.5 < apart.p


def test_without_spread_there_is_no_test() -> None:
    """Two or three scores of a small test set differ equally by chance: p is not 0."""
    same = {0: 0.5, 1: 0.6}
    shifted = {0: 0.5 + 1 / 359, 1: 0.6 + 1 / 359 + 3e-8}  # a rounding of 32 bits apart
    assert difference(same, same) == MeanDifference(0.0, (2, 2), True, 0.0, 1.0)
    result = difference(shifted, same)
    assert result is not None
    assert (result.p, result.half_width) == (None, None)
    assert result.value == pytest.approx(1 / 359, rel=1e-4)
    constant = difference({0: 0.5, 1: 0.5}, {2: 0.6, 3: 0.6})
    assert constant is not None
    assert (constant.p, constant.is_paired) == (None, False)
    varied = difference({0: 0.5, 1: 0.5}, {2: 0.6, 3: 0.7, 4: 0.8})
    assert varied is not None
    with np.errstate(all="ignore"):
        expected = stats.ttest_1samp([0.6, 0.7, 0.8], 0.5).pvalue
    assert varied.p == pytest.approx(expected)


def test_a_single_score_is_not_tested() -> None:
    for one, other in (({0: 0.5}, {0: 0.6}), ({0: 0.5}, {0: 0.4, 1: 0.6})):
        result = difference(one, other)
        assert result is not None
        assert (result.p, result.half_width) == (None, None)
    assert difference({}, {0: 0.5}) is None
    assert difference({0: math.nan}, {0: 0.5}) is None


def test_holms_correction() -> None:
    """The example of the paper's method, and ties, order and limits."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
    assert holm([0.02]) == [0.02]
    assert holm([0.001, 0.002], tests=10) == pytest.approx([0.01, 0.018])


def test_the_critical_value_of_five_seeds() -> None:
    assert t_critical(4) == pytest.approx(2.7764451052)
