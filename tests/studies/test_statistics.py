"""Intervals, paired tests and Holm's correction against SciPy, statsmodels, and simulations without a true effect."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from tlx.studies.statistics import compare_with, holm, mean_interval, paired_p

Draw = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]
REFERENCE = json.loads((Path(__file__).parents[2] / "third_party" / "statistics" / "reference.json").read_text())


@pytest.mark.parametrize("count", [2, 3, 5, 40])
def test_the_interval_is_students(count: int) -> None:
    values = np.random.default_rng(count).normal(0.8, 0.02, count)
    found = mean_interval(values)
    low, high = stats.t.interval(0.95, count - 1, values.mean(), stats.sem(values))
    assert (found.mean, found.low, found.high, found.count) == pytest.approx((values.mean(), low, high, count))


def test_the_bootstrap_is_scipys() -> None:
    values = np.random.default_rng(0).exponential(size=25)
    scipys = stats.bootstrap((values,), np.mean, n_resamples=200_000, method="percentile", rng=1).confidence_interval
    found = mean_interval(values, "bootstrap")
    assert (found.low, found.high) == pytest.approx(
        (scipys.low, scipys.high), abs=0.03
    )  # four standard errors of 10,000 resamples


def test_no_interval_of_one_value() -> None:
    found = mean_interval([0.7])
    assert found.mean == 0.7 and np.isnan(found.low) and np.isnan(found.high)
    assert np.isnan(mean_interval([]).mean)


@pytest.mark.parametrize("count", [3, 5, 20])
def test_the_paired_test_is_scipys(count: int) -> None:
    a, b = np.random.default_rng(count).normal(size=(2, count))
    assert paired_p(a - b) == pytest.approx(stats.ttest_rel(a, b).pvalue, rel=1e-12)


def test_what_cannot_be_tested() -> None:
    assert np.isnan(paired_p([0.1, 0.2]))
    assert paired_p([0.0, 0.0, 0.0]) == 1.0
    accuracy = np.array([0.81, 0.82, 0.83]) - np.array([0.80, 0.81, 0.82])
    assert accuracy.std() > 0  # by rounding alone, so that t would be huge
    assert np.isnan(paired_p(accuracy))


@pytest.mark.parametrize("case", REFERENCE["holm"])
def test_holm_is_statsmodels(case: dict[str, list[float]]) -> None:
    np.testing.assert_allclose(holm(case["p"]), case["holm"], rtol=1e-12)


def test_holm_leaves_out_what_is_no_test() -> None:
    found = holm([0.01, np.nan, 0.04])
    assert found[[0, 2]] == pytest.approx([0.02, 0.04]) and np.isnan(found[1])
    assert holm([]).shape == (0,)


def test_arms_are_paired_by_seed() -> None:
    baseline = {0: 0.70, 1: 0.80, 2: 0.75, 9: 0.10}
    arms = {"better": {2: 0.78, 1: 0.84, 0: 0.72}, "other": {0: 0.75, 1: 0.74, 2: 0.79, 7: 0.99}}
    found = compare_with(baseline, arms)
    tests = {
        name: stats.ttest_rel([arm[s] for s in range(3)], [baseline[s] for s in range(3)]) for name, arm in arms.items()
    }
    for name, test in tests.items():
        assert found[name].p == pytest.approx(test.pvalue) and found[name].interval.count == 3
        interval = test.confidence_interval()
        assert (found[name].interval.low, found[name].interval.high) == pytest.approx((interval.low, interval.high))
    assert found["better"].adjusted_p == pytest.approx(min(2 * tests["better"].pvalue, tests["other"].pvalue))


def _normal(random: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return 0.8 + 0.01 * random.standard_normal(shape)


def _accuracy(random: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Of 200 test examples, so that differences are often equal."""
    return np.round(200 * _normal(random, shape)) / 200


def _diverging(random: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """One run in ten fails and scores far below."""
    return 0.8 - 0.3 * (random.random(shape) < 0.1) + 0.001 * random.standard_normal(shape)


def _common(random: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Most of the variation is the seed's and is the same in all arms."""
    return 0.8 + 0.05 * random.standard_normal(shape[1]) + 0.005 * random.standard_normal(shape)


@pytest.mark.parametrize("draw", [_normal, _accuracy, _diverging, _common])
def test_at_most_5_percent_of_studies_without_effect_find_one(draw: Draw) -> None:
    random = np.random.default_rng(7)
    found, uncorrected = np.mean([_findings(random, draw, seeds) for seeds in (3, 5, 10)], axis=0)
    assert found <= 0.05
    if draw is _normal:
        assert uncorrected > 0.12  # without the correction there would be several times as many


def _findings(random: np.random.Generator, draw: Draw, seeds: int) -> tuple[float, float]:
    """The shares of 1,000 studies of five arms and a baseline that find an effect, with and without the correction."""
    found = uncorrected = 0
    for _ in range(1000):
        baseline, *arms = [dict(enumerate(row)) for row in draw(random, (6, seeds))]
        differences = compare_with(baseline, {str(i): row for i, row in enumerate(arms)}).values()
        found += any(difference.adjusted_p <= 0.05 for difference in differences)
        uncorrected += any(difference.p <= 0.05 for difference in differences)
    assert stats.binomtest(found, 1000, 0.05, "greater").pvalue > 0.01
    return found / 1000, uncorrected / 1000
