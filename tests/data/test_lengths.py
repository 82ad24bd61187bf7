"""The few lengths of a run, against all choices of lengths."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tlx.data.lengths import COMPILE_TOKENS, choose_lengths
from tlx.data.plan import TrainingPlan, padded

LONGEST = arrays(np.int64, st.integers(1, 40), elements=st.integers(1, 40))


def cost(lengths: tuple[int, ...], longest: np.ndarray, unit: float) -> float:
    return sum(padded(int(each), lengths) for each in longest) * unit + COMPILE_TOKENS * len(lengths)


@given(LONGEST, st.floats(0.1, 1e6), st.integers(0, 50))
@settings(max_examples=100, deadline=None)
def test_no_other_lengths_cost_less(longest: np.ndarray, unit: float, at_least: int) -> None:
    found = choose_lengths(longest, unit, at_least)
    last = -(-max(int(longest.max()), at_least) // 4) * 4
    choices = [(*lengths, last) for count in range(3) for lengths in itertools.combinations(range(4, last, 4), count)]
    assert found[-1] == last and 1 <= len(found) <= 3
    assert cost(found, longest, unit) == pytest.approx(min(cost(each, longest, unit) for each in choices), rel=1e-9)


def test_long_runs_have_more_lengths_than_short_ones() -> None:
    lengths = np.random.default_rng(0).geometric(0.05, 3000).clip(3, 90)
    plan = TrainingPlan(lengths, 32, 0, tuple(range(1, 91)))
    longest = np.array([plan.batch(step).length for step in range(plan.steps_per_epoch)])
    short, long = choose_lengths(longest, 32 * 0.01), choose_lengths(longest, 32 * 10)
    assert len(short) == 1 and len(long) == 3
    area = {found: sum(padded(int(each), found) for each in longest) for found in (short, long)}
    assert area[long] < 0.7 * area[short]
