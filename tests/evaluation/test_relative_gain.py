"""Δm against its closed form."""

import math

import pytest

from tlx.evaluation.relative_gain import relative_gain


def test_the_closed_form() -> None:
    baselines = {"tone": 0.8, "loss": 0.5, "same": 0.3}
    higher = {"tone": True, "loss": False, "same": True}
    # +10 %, a loss that is 20 % lower, and no change: (0.1 + 0.2 + 0) / 3
    found = relative_gain({"tone": 0.88, "loss": 0.4, "same": 0.3}, baselines, higher)
    assert found == pytest.approx(0.1)
    assert relative_gain(baselines, baselines, higher) == 0
    # each task's factor alone: all metrics times f give ±(f − 1)
    assert relative_gain({"tone": 0.4}, {"tone": 0.8}, {"tone": True}) == pytest.approx(-0.5)
    assert relative_gain({"loss": 0.75}, {"loss": 0.5}, {"loss": False}) == pytest.approx(-0.5)


def test_what_has_no_relative_gain() -> None:
    assert math.isnan(relative_gain({"score": 0.2}, {"score": -0.1}, {"score": True}))
    assert math.isnan(relative_gain({"tags": 0.2}, {"tags": 0.0}, {"tags": True}))
    with pytest.raises(ValueError, match="baselines of"):
        relative_gain({"tone": 0.2}, {"kind": 0.1}, {"tone": True})
