"""The step with SAM, a penalty and an average, on linear regression: against NumPy, whole and accumulated."""

import functools
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tlx.losses.l2_sp import l2_sp
from tlx.methods.api import Update
from tlx.optim.averages import ema, swa
from tlx.optim.sharpness import sharpness_aware
from tlx.params.paths import flatten
from tlx.training.state import EVAL_PARAMS, init_state
from tlx.training.step import make_train_step

random = np.random.default_rng(0)
X, Y = random.standard_normal((12, 3)), random.standard_normal(12)
VALID = np.array([1, 1, 1, 1, 1, 0, 1, 0, 0, 1, 0, 0], bool)  # micro-batches of unequal content
BATCH = {"train": {"x": X, "y": Y, "valid": VALID}}
START = {"w": random.standard_normal(3), "frozen": random.standard_normal(3)}
OWNER = {"w": "model", "frozen": None}
RATE, RADIUS, ALPHA = 0.1, 0.4, 0.3


def losses(params: Any, batch: Any, method_state: Any, context: Any) -> Any:
    rows = batch["train"]
    error = rows["x"] @ (params["w"] + params["frozen"]) - rows["y"]
    return {"squares": ((rows["valid"] * error**2).sum(), rows["valid"].sum())}, method_state


METHOD: Any = SimpleNamespace(updates=(Update(losses, ("model",)),))
SGD = optax.sgd(RATE)


def steps(count: int, **options: Any) -> tuple[list[Any], dict[str, Any]]:
    """The states after each step, as NumPy."""
    params = jax.tree.map(jnp.asarray, START)
    averaged = options.get("average") is not None
    state = init_state(params, OWNER, {"model": SGD}, {}, averaged)
    step = jax.jit(make_train_step(METHOD, {"model": SGD}, OWNER, **options), donate_argnums=0)
    anchors = {"w": jnp.ones(3), "frozen": None}
    seen, metrics = [], {}
    for _ in range(count):
        state, metrics = step(state, BATCH, jax.random.key(0), anchors)
        seen.append(jax.device_get(state))
    return seen, metrics


def slope(w: np.ndarray) -> np.ndarray:
    """Of the mean squared error over the valid rows."""
    x, y = X[VALID], Y[VALID]
    return 2 * x.T @ (x @ (w + START["frozen"]) - y) / len(y)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_sam_and_penalty(accumulate: int, x64: None) -> None:
    """The penalty counts once a batch; the point of ascent is that of the whole batch's gradient, penalty included."""
    penalty = functools.partial(l2_sp, alpha=ALPHA, beta=0.0)
    seen, metrics = steps(3, accumulate=accumulate, perturbation=sharpness_aware(RADIUS), penalty=penalty)
    w = START["w"]
    for state in seen:
        before = w
        g = slope(w) + ALPHA * (w - 1)
        w_up = w + RADIUS * g / np.linalg.norm(g)
        w = w - RATE * (slope(w_up) + ALPHA * (w_up - 1))
        np.testing.assert_allclose(state.params["w"], w, rtol=1e-9)
        assert np.array_equal(state.params["frozen"], START["frozen"])
    error = X[VALID] @ (before + START["frozen"]) - Y[VALID]
    np.testing.assert_allclose(metrics["loss/penalty"], ALPHA / 2 * ((before - 1) ** 2).sum(), rtol=1e-9)
    np.testing.assert_allclose(metrics["loss/squares"], (error**2).mean(), rtol=1e-9)
    np.testing.assert_allclose(metrics["loss"], metrics["loss/squares"] + metrics["loss/penalty"], rtol=1e-9)


def test_clipping_is_of_the_gradient_at_the_point_of_ascent(x64: None) -> None:
    (state,), metrics = steps(1, clip=0.01, perturbation=sharpness_aware(RADIUS))
    g = slope(START["w"])
    g = slope(START["w"] + RADIUS * g / np.linalg.norm(g))
    np.testing.assert_allclose(state.params["w"], START["w"] - RATE * 0.01 * g / np.linalg.norm(g), rtol=1e-9)
    np.testing.assert_allclose(metrics["gradient_norm"], np.linalg.norm(g), rtol=1e-9)


def test_averages_are_of_what_learns_and_move_nothing(x64: None) -> None:
    plain, _ = steps(6)
    for average in (ema(0.5, warmup=False), swa(3, 2)):
        seen, _ = steps(6, average=average)
        for with_, without in zip(seen, plain, strict=True):
            assert np.array_equal(with_.params["w"], without.params["w"])
        kept = seen[-1].averages[EVAL_PARAMS]
        assert kept.keys() == {"w", "frozen"} and kept["frozen"] is None
    np.testing.assert_allclose(kept["w"], (plain[2].params["w"] + plain[4].params["w"]) / 2, rtol=1e-12)


def test_what_averages_cost() -> None:
    """FLOPs of the compiled step, a parameter."""

    def flops(**options: Any) -> float:
        params = {"w": jnp.zeros(10_000), "frozen": jnp.zeros(10_000)}

        def product(params: Any, batch: Any, carried: Any, context: Any) -> Any:
            return {"sum": ((params["w"] * params["frozen"]).sum(), jnp.ones(()))}, carried

        method: Any = SimpleNamespace(updates=(Update(product, ("model",)),))
        state = init_state(params, OWNER, {"model": SGD}, {}, bool(options))
        step = jax.jit(make_train_step(method, {"model": SGD}, OWNER, **options))
        cost: Any = step.lower(state, BATCH, jax.random.key(0), None).compile().cost_analysis()
        return float(cost["flops"])

    plain = flops()
    for average in (ema(0.9), swa(3, 2)):
        assert 2e4 < flops(average=average) - plain < 5e4


def test_swapping_twice_changes_nothing() -> None:
    seen, _ = steps(2, average=ema(0.5))
    state = seen[-1]
    swapped = state.with_eval_params()
    assert swapped.params["w"] is state.averages[EVAL_PARAMS]["w"]
    assert swapped.params["frozen"] is state.params["frozen"]
    again = swapped.with_eval_params()
    for path, leaf in flatten(state).items():
        assert np.array_equal(leaf, flatten(again)[path]), path
    assert flatten(again).keys() == flatten(state).keys()
