"""Metrics against their definitions written out."""

import numpy as np
import pytest

from tlx.evaluation import classification, regression


def test_classification() -> None:
    labels = np.array([0, 0, 1, 1, 2, 2, 2, 0])
    predictions = np.array([0, 1, 1, 1, 0, 2, 2, 0])
    logits = np.eye(4)[predictions]
    assert classification.accuracy(logits, labels) == 6 / 8
    f1 = []
    for c in range(3):
        hits = ((predictions == c) & (labels == c)).sum()
        f1.append(2 * hits / ((predictions == c).sum() + (labels == c).sum()))
    assert classification.macro_f1(logits, labels) == pytest.approx(np.mean(f1))


def test_regression() -> None:
    draw = np.random.default_rng(0).normal
    targets, predictions = draw(size=(50, 3)), draw(size=(50, 3))
    residual, total = ((targets - predictions) ** 2).sum(0), ((targets - targets.mean(0)) ** 2).sum(0)
    assert regression.r2(predictions, targets) == pytest.approx((1 - residual / total).mean())
    distances = [
        sum((a - b) ** 2 for a, b in zip(x, y, strict=True)) ** 0.5 for x, y in zip(targets, predictions, strict=True)
    ]
    assert regression.mean_error(predictions, targets) == pytest.approx(np.mean(distances))
    assert regression.mean_error(predictions[:, :1], targets[:, :1]) == pytest.approx(
        np.abs(predictions - targets)[:, 0].mean()
    )
