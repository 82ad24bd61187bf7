"""Comparisons of two models on the same examples, against statsmodels and SciPy."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from tlx.evaluation.paired import mcnemar, paired_bootstrap

REFERENCE = json.loads((Path(__file__).parents[2] / "third_party" / "statistics" / "reference.json").read_text())


@pytest.mark.parametrize("case", REFERENCE["mcnemar"])
def test_mcnemar_is_statsmodels(case: dict[str, Any]) -> None:
    both = [(True, False)] * case["only_first"] + [(False, True)] * case["only_second"] + [(True, True)] * 7
    first, second = np.array(both).T
    found = mcnemar(first, second)
    assert (found.only_first, found.only_second) == (case["only_first"], case["only_second"])
    assert found.p == pytest.approx(case["p"], rel=1e-12)


def test_equal_predictions_do_not_differ() -> None:
    right = np.array([True, False, True])
    assert mcnemar(right, right).p == 1.0


def test_the_bootstrap_is_scipys_and_is_paired() -> None:
    random = np.random.default_rng(0)
    first = random.normal(size=80) * 3
    second = first + 0.3 + random.normal(size=80)
    found = paired_bootstrap(lambda rows: second[rows].mean() - first[rows].mean(), 80, 5000)
    scipys = stats.bootstrap(
        (first, second), lambda a, b, axis: (b - a).mean(axis), paired=True, n_resamples=50_000, method="percentile",
        rng=1,
    ).confidence_interval  # fmt: skip
    assert found.difference == pytest.approx((second - first).mean())
    assert (found.low, found.high) == pytest.approx((scipys.low, scipys.high), abs=0.02)
    assert found.high - found.low < 1  # unpaired it would be about 1.8
    assert found.p == pytest.approx(stats.ttest_rel(second, first).pvalue, abs=0.02)


def test_no_difference_has_p_1() -> None:
    assert paired_bootstrap(lambda rows: 0.0, 10, 100).p == 1.0
