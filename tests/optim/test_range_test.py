"""The range test on losses that are known."""

from collections.abc import Sequence

import numpy as np
import optax
import pytest

from tlx.errors import TlxError
from tlx.optim import range_test
from tlx.optim.range_test import RangeTest, Watch, sweep


def watch(losses: Sequence[float], rate: optax.Schedule) -> RangeTest:
    """As the loop calls it."""
    hook = Watch(rate, len(losses))
    any(hook(step, {"loss": loss}) for step, loss in enumerate(losses, 1))
    return hook.found()


def test_the_sweep_is_geometric() -> None:
    rate = sweep(1e-5, 10.0, 7)
    np.testing.assert_allclose([float(rate(step)) for step in range(7)], np.geomspace(1e-5, 10, 7), rtol=1e-5)


def test_smoothing_is_pandas_like_ewm() -> None:
    """Σ βⁱ lₜ₋ᵢ / Σ βⁱ, by its definition."""
    losses = np.random.default_rng(0).uniform(1, 2, 20)
    found = watch(losses.tolist(), sweep(1e-3, 1e-1, 20))
    for step in range(20):
        weights = range_test.SMOOTHING ** np.arange(step, -1, -1.0)
        assert found.smoothed[step] == pytest.approx((weights * losses[: step + 1]).sum() / weights.sum(), rel=1e-9)
    np.testing.assert_allclose(found.losses, losses)


def test_the_suggestions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unsmoothed: a loss with its steepest fall at 1e-3 and its minimum at 1e-1, and a steeper fall after it."""
    monkeypatch.setattr(range_test, "SMOOTHING", 0.0)
    monkeypatch.setattr(range_test, "DIVERGED", 100.0)
    rates = np.geomspace(1e-5, 1e1, 61)
    losses = 2 - np.tanh(3 * (np.log10(rates) + 3)) + np.maximum(np.log10(rates) + 1, 0) ** 2
    losses[2], losses[3] = 9.0, 0.5  # noise of the first tenth, both the steepest fall and the minimum
    losses[55] = 1.2  # a fall steeper than any other, after the minimum
    found = watch(losses.tolist(), sweep(1e-5, 1e1, 61))
    assert found.steepest == pytest.approx(1e-3, rel=0.3)
    assert found.tenth == pytest.approx(1e-2, rel=0.3)


@pytest.mark.parametrize("last", [float("nan"), float("inf")])
def test_it_ends_where_the_loss_does(last: float) -> None:
    assert len(watch([3.0, 2.0, 1.0, last, 1.0], sweep(1e-3, 1.0, 9)).rates) == 3


def test_it_ends_when_the_loss_has_grown() -> None:
    found = watch([1.0] * 5 + [1e3] * 20, sweep(1e-3, 1.0, 25))
    assert len(found.rates) == 6


def test_it_ends_after_its_steps() -> None:
    hook = Watch(sweep(1e-3, 1.0, 3), 3)
    assert [hook(step, {"loss": 1.0}) for step in (1, 2, 3)] == [False, False, True]


def test_refused() -> None:
    with pytest.raises(TlxError, match=r"found 1 to 0\.1 in 10"):
        sweep(1, 0.1, 10)
    with pytest.raises(TlxError, match="not finite in the first two steps"):
        watch([1.0, float("nan")], sweep(1e-3, 1.0, 9))
