"""Batch normalization in the step: running statistics against NumPy, and those of a frozen part that stay."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from tlx.methods.api import Update
from tlx.models.cnn import EPSILON, MOMENTUM, ConvNet
from tlx.models.forward import forward, init_model_state
from tlx.params.paths import flatten
from tlx.training.state import init_state
from tlx.training.step import make_train_step

ROWS, WIDTH = 8, 3
random = np.random.default_rng(1)
X, Y = random.standard_normal((ROWS, WIDTH)), random.standard_normal(ROWS)
VALID = np.array([1, 1, 0, 1, 1, 1, 1, 0], bool)
BATCH = {"train": {"x": X, "y": Y, "valid": VALID}}
RATE = 0.1


class TwoNorms(nn.Module):
    """norm_1(norm_0(x) · w), so that each gradient is a few lines of NumPy."""

    @nn.compact
    def __call__(self, x: Any, valid: Any, deterministic: bool = True, frozen: Any = ()) -> Any:
        for index in range(2):
            name = f"norm_{index}"
            use = deterministic or name in frozen
            norm = nn.BatchNorm(use, momentum=MOMENTUM, epsilon=EPSILON, param_dtype=x.dtype, dtype=x.dtype, name=name)
            x = norm(x, mask=valid[:, None])
        return x.sum(axis=1)


def losses(params: Any, batch: Any, carried: Any, context: Any) -> Any:
    rows = batch["train"]
    output, state = forward(TwoNorms(), params, carried.model, {"x": rows["x"], "valid": rows["valid"]}, context)
    error = rows["valid"] * (output - rows["y"])
    return {"squares": ((error**2).sum(), rows["valid"].sum())}, dataclasses.replace(carried, model=state)


def normalized(x: np.ndarray, scale: np.ndarray, bias: np.ndarray, mean: np.ndarray, var: np.ndarray) -> np.ndarray:
    return (x - mean) / np.sqrt(var + EPSILON) * scale + bias


def by_hand(steps: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Plain gradient descent on the upper norm by its chain rule; the lower is frozen and uses its running values."""
    low = {"mean": np.full(WIDTH, 0.3), "var": np.full(WIDTH, 1.7)}
    high = {"mean": np.zeros(WIDTH), "var": np.ones(WIDTH)}
    scale, bias = np.ones(WIDTH), np.zeros(WIDTH)
    for _ in range(steps):
        h = normalized(X, np.ones(WIDTH), np.zeros(WIDTH), **low)
        mean, var = h[VALID].mean(0), h[VALID].var(0)
        unit = (h - mean) / np.sqrt(var + EPSILON)
        error = VALID * ((unit * scale + bias).sum(1) - Y)
        high = {"mean": 0.9 * high["mean"] + 0.1 * mean, "var": 0.9 * high["var"] + 0.1 * var}
        scale = scale - RATE * (2 * error[:, None] * unit).sum(0) / VALID.sum()
        bias = bias - RATE * np.full(WIDTH, 2 * error.sum() / VALID.sum())
    return {"scale": scale, "bias": bias}, high


def test_statistics_move_and_those_of_a_frozen_part_stay(x64: None) -> None:
    variables: Any = TwoNorms().init(jax.random.key(0), X, VALID)
    variables = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), variables)
    variables["batch_stats"]["norm_0"] = {"mean": jnp.full(WIDTH, 0.3), "var": jnp.full(WIDTH, 1.7)}
    player_of = {path: "model" if path.startswith("norm_1") else None for path in flatten(variables["params"])}
    optimizers = {"model": optax.sgd(RATE)}
    model_state = {"batch_stats": variables["batch_stats"]}
    method: Any = SimpleNamespace(updates=(Update(losses, ("model",)),))
    step = jax.jit(make_train_step(method, optimizers, player_of, frozen=("norm_0",)))
    state = init_state(variables["params"], player_of, optimizers, {}, model_state=model_state)
    for _ in range(4):
        state, _ = step(state, BATCH, jax.random.key(0))
    params, high = by_hand(4)
    for name, value in params.items():
        np.testing.assert_allclose(state.params["norm_1"][name], value, rtol=1e-9)
    stats = state.model_state["batch_stats"]
    for name, value in high.items():
        np.testing.assert_allclose(stats["norm_1"][name], value, rtol=1e-9)
    before = jax.device_get(model_state["batch_stats"]["norm_0"])
    for name, value in before.items():
        assert np.asarray(stats["norm_0"][name]).tobytes() == value.tobytes(), name


def test_evaluation_reads_the_statistics_and_changes_none() -> None:
    network, images = ConvNet((4, 6), 5), jnp.asarray(random.standard_normal((4, 8, 8, 1)), jnp.float32)
    params = network.init(jax.random.key(0), images)["params"]
    first = init_model_state(network, {"pixel_values": images})
    assert set(flatten(first)) == {f"batch_stats/block_{i}/norm/{name}" for i in range(2) for name in ("mean", "var")}
    _, state = network.apply({"params": params, **first}, images, deterministic=False, mutable=["batch_stats"])
    output, after = forward(network, params, state, {"pixel_values": images})
    assert after is state and output.shape == (4, 5)
    alone, _ = forward(network, params, state, {"pixel_values": images[:1]})
    np.testing.assert_allclose(output[:1], alone, rtol=1e-5, atol=1e-6)  # no row depends on the others
    assert not np.allclose(output, forward(network, params, first, {"pixel_values": images})[0])


@pytest.mark.parametrize("frozen", [(), ("block_0",)])
def test_rows_of_padding_enter_no_statistics(frozen: tuple[str, ...]) -> None:
    network, images = ConvNet((4, 6), 5), random.standard_normal((6, 8, 8, 1)).astype(np.float32)
    valid = np.array([1, 1, 1, 1, 0, 0], bool)
    variables = network.init(jax.random.key(0), images)

    def statistics(images: np.ndarray, valid: np.ndarray | None) -> Any:
        _, state = network.apply(
            variables, images, deterministic=False, frozen=frozen, valid=valid, mutable=["batch_stats"]
        )
        return flatten(state["batch_stats"])

    padded, alone = statistics(images, valid), statistics(images[:4], None)
    before = flatten(variables["batch_stats"])
    for path, leaf in padded.items():
        np.testing.assert_allclose(leaf, alone[path], rtol=1e-5, atol=1e-6, err_msg=path)
        assert np.array_equal(leaf, before[path]) == path.startswith(frozen or "-"), path
