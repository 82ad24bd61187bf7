"""Statistics of a study: intervals over seeds, paired differences from a baseline, and Holm's correction.

What varies is the seed. An interval says how well the mean over all seeds is known; it does not say how the metric
would vary on another test set.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from scipy.special import stdtr, stdtrit

Method = Literal["t", "bootstrap"]
LEVEL = 0.95  # of all intervals
RESAMPLES = 10_000
FEWEST_PAIRS = 3  # of a test: with two, it would rest on the assumption of normal values alone
ROUNDING = 1e-6  # relative: differences that vary by less than float32's rounding do not vary


@dataclasses.dataclass(frozen=True)
class Interval:
    """A mean over seeds with its 95 % interval.

    Attributes:
      mean: the mean; NaN without values.
      low: lower end; NaN for fewer than two values.
      high: upper end; NaN for fewer than two values.
      count: number of values.
    """

    mean: float
    low: float
    high: float
    count: int

    @property
    def half_width(self) -> float:
        """Half the length of the interval, which is `t · s / √n` for method "t"."""
        return (self.high - self.low) / 2


@dataclasses.dataclass(frozen=True)
class Difference:
    """The difference of an arm from the baseline, paired by seed.

    Attributes:
      interval: mean and interval of the differences arm − baseline; `count` is the number of pairs.
      p: two-sided p-value of the paired t-test; NaN if it does not exist: fewer than three pairs, or differences that
        are equal for all seeds and not 0.
      adjusted_p: the p-value after Holm's correction over the arms; NaN where `p` is.
    """

    interval: Interval
    p: float
    adjusted_p: float


def mean_interval(values: Sequence[float] | np.ndarray, method: Method = "t") -> Interval:
    """Returns the mean of values with its 95 % interval.

    Args:
      values: one value for each seed, independent of each other.
      method: "t": mean ± t · s / √n with Student's t of n − 1 degrees of freedom; exact if the values are normal.
        "bootstrap": the percentile bootstrap of the mean (Efron & Tibshirani 1993, chapter 13) with 10,000 resamples
        from a fixed seed; too narrow for a few seeds.
    """
    mean, deviation = _moments(values)
    count = len(values)
    if count < 2:
        return Interval(mean, math.nan, math.nan, count)
    if method == "bootstrap":
        rows = np.random.default_rng(0).integers(count, size=(RESAMPLES, count))
        means = np.asarray(values, np.float64)[rows].mean(axis=1)
        low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return Interval(mean, float(low), float(high), count)
    half = _quantile(count - 1) * deviation / math.sqrt(count)
    return Interval(mean, mean - half, mean + half, count)


def paired_p(differences: Sequence[float] | np.ndarray, scale: float = 1.0) -> float:
    """Returns the two-sided p-value of the paired t-test, as `scipy.stats.ttest_rel` does.

    Args:
      differences: one for each pair.
      scale: size of the compared values, relative to which rounding is judged.

    Returns:
      The p-value; 1 if all differences are 0; NaN for fewer than three pairs, and if all differences are equal but not
      0: such arms do not depend on the seed, so that the seeds are no repetitions.
    """
    count = len(differences)
    if count < FEWEST_PAIRS:
        return math.nan
    mean, deviation = _moments(differences)
    if deviation <= ROUNDING * scale:
        return 1.0 if abs(mean) <= ROUNDING * scale else math.nan
    return float(2 * stdtr(count - 1, -abs(mean) * math.sqrt(count) / deviation))


def holm(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Returns p-values after the step-down correction of Holm (1979) for the number of tests.

    The chance of at least one false finding at level α is at most α, however the tests depend on each other.

    Args:
      p_values: the p-values of a family of tests; a NaN is no test, and stays.
    """
    p = np.asarray(p_values, np.float64)
    adjusted = np.full(p.shape, np.nan)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def compare_with(
    baseline: Mapping[int, float], arms: Mapping[str, Mapping[int, float]], method: Method = "t"
) -> dict[str, Difference]:
    """Compares arms with a baseline, paired by seed, with Holm's correction over the arms.

    Args:
      baseline: the baseline's values by seed.
      arms: the values by seed, by the name of the arm. Seeds that only one side has are left out.
      method: of the interval, see `mean_interval`. The p-value is always that of the paired t-test.

    Returns:
      The differences arm − baseline by the name of the arm.
    """
    pairs = {name: differences(values, baseline) for name, values in arms.items()}
    scale = max((abs(value) for values in (baseline, *arms.values()) for value in values.values()), default=1.0)
    p_values = [paired_p(found, scale) for found in pairs.values()]
    return {
        name: Difference(mean_interval(found, method), p, float(adjusted))
        for (name, found), p, adjusted in zip(pairs.items(), p_values, holm(p_values), strict=True)
    }


def differences(values: Mapping[int, float], baseline: Mapping[int, float]) -> list[float]:
    """Returns values − baseline for the seeds that both have."""
    return [values[seed] - baseline[seed] for seed in values if seed in baseline]


def _moments(values: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """The mean and the standard deviation of the sample; NaN where there are too few values.

    NumPy would take ten times as long for a few values, and a report may have a hundred thousand intervals.
    """
    count = len(values)
    mean = math.fsum(values) / count if count else math.nan
    if count < 2:
        return mean, math.nan
    return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))


@functools.cache
def _quantile(freedom: int) -> float:
    """The upper quantile of Student's t for a two-sided interval."""
    return float(stdtrit(freedom, (1 + LEVEL) / 2))
