"""Statistics of a few values: mean, deviation, 95 % interval, and tests of two means.

The values are scores of runs that differ only in their seed, or in their fold. Nothing here needs a
library. Values that are None or not finite do not count.
"""

from __future__ import annotations

import itertools
import math
import operator
import statistics
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

LEVEL = 0.95  # of the intervals
ROUNDING = 1e-6  # relative; scores of 32 bits are equal if they differ by less
MAX_TERMS = 100_000  # of the continued fraction, which needs about sqrt(degrees of freedom)
PRECISION = 3e-16  # relative, of the continued fraction
TINY = 1e-300  # in place of a zero in the continued fraction

Scores = Mapping[Hashable, float | None]  # by seed, or by what else makes a pair


@dataclass(frozen=True)
class Summary:
    """A summary of values that are independent, or of folds.

    Attributes:
        n: How many values count.
        mean: Their mean; None without values.
        std: Their standard deviation with n - 1 in the denominator; None for fewer than two.
        half_width: Half of the 95 % interval of the mean; None for fewer than two, and for equal
            values: a few scores of a small test set are often equal by chance.
    """

    n: int
    mean: float | None = None
    std: float | None = None
    half_width: float | None = None

    @property
    def low(self) -> float | None:
        """The lower end of the 95 % interval; None without an interval."""
        if self.mean is None or self.half_width is None:
            return None
        return self.mean - self.half_width

    @property
    def high(self) -> float | None:
        """The upper end of the 95 % interval; None without an interval."""
        if self.mean is None or self.half_width is None:
            return None
        return self.mean + self.half_width


@dataclass(frozen=True)
class MeanDifference:
    """The difference of two means, the first minus the second, and a test of it.

    Attributes:
        value: The difference; of pairs the mean of their differences.
        n: How many values count on each side; of pairs their number twice.
        is_paired: True if the values were compared in pairs.
        half_width: Half of the 95 % interval of the difference; None if no test is possible.
        p: The two-sided p value; None if no test is possible: a side has one value, or the values
            have no spread, though the means differ.
    """

    value: float
    n: tuple[int, int]
    is_paired: bool
    half_width: float | None = None
    p: float | None = None


def summarize(values: Iterable[float | None], overlap: float = 0.0) -> Summary:
    """Return the summary of values, with the interval of Student's t distribution.

    The half width is `t(0.975, n - 1) * std * sqrt(1 / n + overlap)`. For independent values
    `overlap` is 0. For k folds, whose training samples overlap, it is test over training samples,
    1 / (k - 1): without it the interval is too narrow (Nadeau and Bengio, Inference for the
    Generalization Error, Machine Learning 52, 2003, section 3, "corrected resampled t-test").
    """
    counted = finite_values(values)
    if not counted:
        return Summary(0)
    mean = statistics.mean(counted)
    if len(counted) < 2:
        return Summary(1, mean)
    std = statistics.stdev(counted)
    if std <= ROUNDING * largest(counted):
        return Summary(len(counted), mean, std)
    error = std * math.sqrt(1 / len(counted) + overlap)
    return Summary(len(counted), mean, std, t_critical(len(counted) - 1) * error)


def finite_values(values: Iterable[float | None]) -> list[float]:
    """Return the finite numbers among values."""
    return [float(value) for value in values if value is not None and math.isfinite(value)]


def difference(first: Scores, second: Scores, overlap: float = 0.0) -> MeanDifference | None:
    """Return the difference of two groups of scores; None if one of them is empty.

    The scores are compared in pairs if at least two keys, and more than half of those of the
    smaller group, are in both groups: runs with the same seed share their order of batches, so the
    difference of a pair varies less than the scores. Otherwise Welch's test is used.
    """
    one, other = finite_scores(first), finite_scores(second)
    if not one or not other:
        return None
    shared = [key for key in one if key in other]
    if len(shared) >= 2 and 2 * len(shared) > min(len(one), len(other)):
        pairs = [(one[key], other[key]) for key in shared]
        return paired_difference(pairs, overlap)
    return welch_difference(list(one.values()), list(other.values()), overlap)


def finite_scores(scores: Scores) -> dict[Hashable, float]:
    """Return the finite numbers among scores."""
    return {
        key: float(value)
        for key, value in scores.items()
        if value is not None and math.isfinite(value)
    }


def paired_difference(
    pairs: Sequence[tuple[float, float]], overlap: float = 0.0
) -> MeanDifference | None:
    """Return the mean of the differences of pairs, with Student's paired t test.

    `t = mean / (std * sqrt(1 / n + overlap))` has n - 1 degrees of freedom; `overlap` is that of
    `summarize`.
    """
    summary = summarize(itertools.starmap(operator.sub, pairs), overlap)
    if summary.mean is None:
        return None
    n = (summary.n, summary.n)
    size = largest(itertools.chain.from_iterable(pairs))
    if summary.std is None:
        return MeanDifference(summary.mean, n, is_paired=True)
    if summary.half_width is None or summary.std <= ROUNDING * size:
        return without_spread(summary.mean, n, is_paired=True, size=size)
    error = summary.std * math.sqrt(1 / summary.n + overlap)
    p = t_two_sided(summary.mean / error, summary.n - 1)
    return MeanDifference(summary.mean, n, True, summary.half_width, p)


def welch_difference(
    first: Sequence[float], second: Sequence[float], overlap: float = 0.0
) -> MeanDifference | None:
    """Return the difference of two means, with Welch's t test for unequal variances.

    B. L. Welch, The Generalization of Student's Problem when Several Different Population Variances
    are Involved, Biometrika 34, 1947; the degrees of freedom are those of Welch and Satterthwaite.
    """
    one, other = summarize(first, overlap), summarize(second, overlap)
    if one.mean is None or other.mean is None:
        return None
    n = (one.n, other.n)
    value = one.mean - other.mean
    if one.std is None or other.std is None:
        return MeanDifference(value, n, is_paired=False)
    size = largest([*first, *second])
    if max(one.std, other.std) <= ROUNDING * size:
        return without_spread(value, n, is_paired=False, size=size)
    errors = (
        one.std * math.sqrt(1 / one.n + overlap),
        other.std * math.sqrt(1 / other.n + overlap),
    )
    error = math.hypot(*errors)
    df = welch_degrees_of_freedom(errors, n)
    return MeanDifference(value, n, False, t_critical(df) * error, t_two_sided(value / error, df))


def welch_degrees_of_freedom(errors: tuple[float, float], n: tuple[int, int]) -> float:
    """Return the degrees of freedom of Welch and Satterthwaite for two standard errors."""
    scale = max(errors)  # squares of large errors would overflow
    first, second = ((error / scale) ** 2 for error in errors)
    return (first + second) ** 2 / (first**2 / (n[0] - 1) + second**2 / (n[1] - 1))


def without_spread(
    value: float, n: tuple[int, int], *, is_paired: bool, size: float
) -> MeanDifference:
    """Return the difference of values that do not vary.

    Equal values have p = 1. Of other values nothing is known about the noise.
    """
    if abs(value) <= ROUNDING * size:
        return MeanDifference(0.0, n, is_paired, 0.0, 1.0)
    return MeanDifference(value, n, is_paired)


def largest(values: Iterable[float | None]) -> float:
    """Return the largest absolute value among the finite ones; 0 without any."""
    return max(map(abs, finite_values(values)), default=0.0)


def holm(p_values: Sequence[float], tests: int | None = None) -> list[float]:
    """Return p values that are corrected for several tests, in the order of `p_values`.

    The smallest is multiplied by the number of tests, the next by one less, and so on; none is less
    than the one before it (S. Holm, A Simple Sequentially Rejective Multiple Test Procedure,
    Scandinavian Journal of Statistics 6, 1979). With `tests`, the p values are the most interesting
    ones of so many tests.
    """
    tests = max(len(p_values), tests or 0)
    corrected = [1.0] * len(p_values)
    least = 0.0
    ranked = sorted(range(len(p_values)), key=p_values.__getitem__)
    for rank, index in enumerate(ranked):
        least = max(least, min(1.0, (tests - rank) * p_values[index]))
        corrected[index] = least
    return corrected


@lru_cache(maxsize=4096)
def t_critical(df: float, level: float = LEVEL) -> float:
    """Return the t that a t distribution exceeds on either side with probability 1 - level."""
    return t_quantile((1 + level) / 2, df)


def t_quantile(probability: float, df: float) -> float:
    """Return the quantile of Student's t distribution with `df` degrees of freedom, by bisection.

    Raises:
        ValueError: The probability is not between 0 and 1.
    """
    if not 0 < probability < 1:
        raise ValueError(f"the probability must be between 0 and 1, not {probability}")
    if probability < 0.5:
        return -t_quantile(1 - probability, df)
    tails = 2 * (1 - probability)
    low, high = 0.0, 1.0
    while t_two_sided(high, df) > tails:
        low, high = high, 2 * high
    return bisected(low, high, tails, df)


def bisected(low: float, high: float, tails: float, df: float) -> float:
    """Return the t between `low` and `high` whose two tails have this probability."""
    middle = (low + high) / 2
    while low < middle < high:
        if t_two_sided(middle, df) > tails:
            low = middle
        else:
            high = middle
        middle = (low + high) / 2
    return middle


def t_cdf(t: float, df: float) -> float:
    """Return the probability that a t distribution with `df` degrees of freedom is at most `t`."""
    tail = t_two_sided(t, df) / 2
    return tail if t < 0 else 1 - tail


def t_two_sided(t: float, df: float) -> float:
    """Return the probability that a t distribution is at least as far from 0 as `t`.

    It is I_x(df / 2, 1 / 2) with x = df / (df + t^2) (Abramowitz and Stegun, 26.7.1 with 26.5.27).
    """
    square = t * t
    if math.isinf(square):
        return 0.0
    return regularized_beta(df / (df + square), square / (df + square), df / 2, 0.5)


def regularized_beta(x: float, y: float, a: float, b: float) -> float:
    """Return the regularized incomplete beta function I_x(a, b), where y = 1 - x.

    The continued fraction is DLMF 8.17.22; it converges fast for x < (a + 1) / (a + b + 2), and
    otherwise I_x(a, b) = 1 - I_y(b, a) is used (DLMF 8.17.4). https://dlmf.nist.gov/8.17
    """
    if x <= 0:
        return 0.0
    if y <= 0:
        return 1.0
    if x > (a + 1) / (a + b + 2):
        return 1 - regularized_beta(y, x, b, a)
    log_beta = math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
    factor = math.exp(a * math.log(x) + b * math.log(y) - log_beta) / a
    return min(1.0, factor / beta_fraction(x, a, b))


def beta_fraction(x: float, a: float, b: float) -> float:
    """Return 1 + d_1 / (1 + d_2 / (1 + ...)) of DLMF 8.17.22, by the modified method of Lentz.

    W. J. Lentz, Applied Optics 15, 1976; Numerical Recipes, 3rd edition, section 5.2.
    """
    value, numerator, denominator = 1.0, 1.0, 0.0
    for term in range(1, MAX_TERMS):
        coefficient = beta_coefficient(term, x, a, b)
        denominator = 1 / nonzero(1 + coefficient * denominator)
        numerator = nonzero(1 + coefficient / numerator)
        change = numerator * denominator
        value *= change
        if abs(change - 1) <= PRECISION:
            break
    return value


def beta_coefficient(term: int, x: float, a: float, b: float) -> float:
    """Return d_term of DLMF 8.17.23."""
    m = term // 2
    if term % 2:
        return -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
    return m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))


def nonzero(value: float) -> float:
    """Return a value, or a tiny one in place of zero."""
    return value if abs(value) > TINY else TINY
