"""Tests of two models on the same examples: McNemar's test and the paired bootstrap."""

import dataclasses
from collections.abc import Callable

import numpy as np
from scipy.special import bdtr


@dataclasses.dataclass(frozen=True)
class McNemar:
    """The exact test of McNemar (1947) whether two classifiers have the same accuracy.

    Attributes:
      only_first: number of examples that only the first classifies correctly.
      only_second: number of examples that only the second classifies correctly.
      p: two-sided p-value: under the null hypothesis `only_first` is binomial with probability 1/2.
    """

    only_first: int
    only_second: int
    p: float


def mcnemar(first: np.ndarray, second: np.ndarray) -> McNemar:
    """Computes McNemar's exact test.

    Args:
      first: bool (examples,), whether the first classifier is right.
      second: bool (examples,), whether the second one is.
    """
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    fewer, both = min(only_first, only_second), only_first + only_second
    p = min(1.0, 2 * float(bdtr(fewer, both, 0.5))) if both else 1.0
    return McNemar(only_first, only_second, p)


@dataclasses.dataclass(frozen=True)
class Bootstrap:
    """A difference with its 95 % interval over examples.

    Attributes:
      difference: the difference on the examples themselves.
      low: lower end of the percentile interval.
      high: upper end.
      p: two-sided p-value: twice the share of resamples on the other side of 0, both counts raised by one (Davison &
        Hinkley 1997, section 4.2).
      resamples: number of resamples.
    """

    difference: float
    low: float
    high: float
    p: float
    resamples: int


def paired_bootstrap(difference: Callable[[np.ndarray], float], count: int, resamples: int = 1000) -> Bootstrap:
    """Computes the paired bootstrap (Efron & Tibshirani 1993): both models are measured on the same resampled examples.

    Args:
      difference: the difference of a metric between the models on examples given by their positions, int64 (count,).
      count: number of examples.
      resamples: number of resamples, drawn from a fixed seed.
    """
    random = np.random.default_rng(0)
    drawn = np.array([difference(random.integers(count, size=count)) for _ in range(resamples)])
    low, high = np.quantile(drawn, [0.025, 0.975])
    side = min((drawn <= 0).sum(), (drawn >= 0).sum())
    p = min(1.0, 2 * (int(side) + 1) / (resamples + 1))
    return Bootstrap(difference(np.arange(count)), float(low), float(high), p, resamples)
