"""Averages against NumPy: a loop in float64, the mean of the parameters that were saved."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tlx.errors import TlxError
from tlx.optim.averages import AverageWeight, ema, swa, update_average

PATH = np.random.default_rng(0).standard_normal((31, 4)).astype(np.float32).cumsum(0)  # the parameters after each step


def run(share: AverageWeight) -> np.ndarray:
    """The average after every step."""
    average, found = {"w": jnp.asarray(PATH[0]), "frozen": None}, []
    step = jax.jit(lambda average, params, count: update_average(average, {"w": params, "frozen": None}, share(count)))
    for count in range(1, len(PATH)):
        average = step(average, jnp.asarray(PATH[count]), jnp.int32(count))
        assert average["frozen"] is None
        found.append(np.asarray(average["w"]))
    return np.stack(found)


@pytest.mark.parametrize(("decay", "warmup"), [(0.5, True), (0.9, True), (0.9, False)])
def test_ema(decay: float, warmup: bool) -> None:
    mean, expected = PATH[0].astype(np.float64), []
    for count in range(1, len(PATH)):
        d = min(decay, (1 + count) / (10 + count)) if warmup else decay
        mean = d * mean + (1 - d) * PATH[count]
        expected.append(mean)
    np.testing.assert_allclose(run(ema(decay, warmup)), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("start", "every"), [(1, 1), (10, 1), (7, 5), (30, 4)])
def test_swa(start: int, every: int) -> None:
    found = run(swa(start, every))
    for count in range(1, len(PATH)):
        taken = PATH[start : count + 1 : every] if count >= start else PATH[count : count + 1]
        np.testing.assert_allclose(found[count - 1], taken.mean(0, dtype=np.float64), rtol=1e-5, atol=1e-5)
    assert np.array_equal(found[: start - 1], PATH[1:start])


def test_an_average_keeps_its_dtype() -> None:
    half = {"w": jnp.ones(2, jnp.bfloat16)}
    assert update_average(half, half, ema(0.9)(jnp.int32(1)))["w"].dtype == jnp.bfloat16


def test_refused() -> None:
    with pytest.raises(TlxError, match=r"decay is 1\.0; it must be at least 0 and below 1"):
        ema(1.0)
    with pytest.raises(TlxError, match="start=0 and every=1"):
        swa(0, 1)
