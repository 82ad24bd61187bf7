"""Calibration against its definition, bin by bin."""

import numpy as np
import pytest

from tlx.evaluation.calibration import BINS, calibration_error, reliability


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("seed", range(5))
def test_expected_calibration_error(seed: int, classes: int) -> None:
    random = np.random.default_rng(seed)
    logits = random.normal(size=(200, classes)) * random.uniform(0.1, 5)
    labels = random.integers(0, classes, 200)
    total = 0.0
    for low in range(BINS):
        inside = []
        for row, label in zip(logits, labels, strict=True):
            p = np.exp(row) / np.exp(row).sum()
            if low / BINS < p.max() <= (low + 1) / BINS:
                inside.append((p.max(), p.argmax() == label))
        if inside:
            confidence, right = np.array(inside, float).mean(axis=0)
            total += len(inside) / 200 * abs(confidence - right)
    assert calibration_error(logits, labels) == pytest.approx(total, abs=1e-12)


def test_sure_and_right_is_calibrated_sure_and_wrong_is_not() -> None:
    logits = np.array([[50.0, 0.0], [50.0, 0.0]])
    assert calibration_error(logits, np.array([0, 0])) == pytest.approx(0, abs=1e-9)
    assert calibration_error(logits, np.array([1, 1])) == pytest.approx(1, abs=1e-9)
    bins = reliability(logits, np.array([0, 1]))
    assert bins.counts.tolist() == [0] * (BINS - 1) + [2] and bins.accuracy[-1] == 0.5
