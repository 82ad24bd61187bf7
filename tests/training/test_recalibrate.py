"""Batch norm's statistics for an average, against NumPy in float64."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from tlx.errors import TlxError
from tlx.methods.api import Update
from tlx.models.forward import forward
from tlx.params.paths import flatten
from tlx.recipes import defaults
from tlx.recipes.regularise import plan_recalibration
from tlx.training.recalibrate import Recalibration, make_add
from tlx.training.state import EVAL_PARAMS, init_state

ROWS, WIDTH, EPSILON = 8, 3, 1e-5
random = np.random.default_rng(4)
COUNTS = (8, 5, 1, 8)  # examples of each batch; the rest is padding
X = random.standard_normal((len(COUNTS), ROWS, WIDTH)) * np.array([1.0, 3.0, 0.5]) + 2
SCALE = random.uniform(0.5, 2, WIDTH)


class Norms(nn.Module):
    """A norm, a square, a norm; how often it was run in training, in a collection of its own."""

    momentum: float = 0.9

    @nn.compact
    def __call__(self, x: Any, valid: Any, deterministic: bool = True, frozen: Any = ()) -> Any:
        passes = self.variable("passes", "count", lambda: jnp.zeros((), jnp.int32))
        passes.value = passes.value + (not deterministic)
        for name in ("low", "high"):
            norm = nn.BatchNorm(momentum=self.momentum, epsilon=EPSILON, dtype=x.dtype, name=name)
            x = norm(x, use_running_average=deterministic or name in frozen, mask=valid[:, None]) ** 2
        return x


def method(network: nn.Module) -> Any:
    def losses(params: Any, batch: Any, carried: Any, context: Any) -> Any:
        output, state = forward(network, params, carried.model, dict(batch["train"]), context)
        return {"sum": (output.sum(), jnp.ones(()))}, dataclasses.replace(carried, model=state)

    return SimpleNamespace(updates=(Update(losses, ("model",)),))


def started(network: nn.Module) -> Any:
    """A state whose average is not its parameters, and whose statistics are those of neither."""
    variables: Any = network.init(jax.random.key(0), X[0], np.ones(ROWS, bool))
    variables = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64 if leaf.ndim else leaf.dtype), variables)
    params = jax.tree.map(lambda leaf: leaf + 9, variables.pop("params"))
    variables["batch_stats"] = jax.tree.map(lambda leaf: leaf + 7.0, variables["batch_stats"])
    player_of, optimizers = dict.fromkeys(flatten(params), "model"), {"model": optax.sgd(0.1)}
    state = init_state(params, player_of, optimizers, {}, averaged=True, model_state=variables)
    average = {name: {"scale": jnp.asarray(SCALE), "bias": jnp.zeros(WIDTH)} for name in params}
    return dataclasses.replace(state, averages={EVAL_PARAMS: average})


def recalibrated(network: nn.Module, state: Any, batches: int = 9, **options: Any) -> Any:
    """The state with the average's statistics, from the batches there are."""
    add = jax.jit(make_add(method(network), **options))
    key = jax.random.key(0)
    recalibrate = Recalibration(lambda *given: add(*given, key), batches)
    given = ({"train": {"x": x, "valid": np.arange(ROWS) < n}} for x, n in zip(X, COUNTS, strict=True))
    return recalibrate(state, given)


def by_hand(parts: int, frozen: bool, batches: int = len(COUNTS)) -> dict[str, np.ndarray]:
    """Means over (micro-)batches by their examples; `low` stays at mean 7, variance 8 where it is frozen."""
    pieces = [x[:n][part::parts] for x, n in zip(X[:batches], COUNTS, strict=False) for part in range(parts)]
    pieces = [piece for piece in pieces if len(piece)]
    total = sum(len(piece) for piece in pieces)
    found: dict[str, Any] = {}
    for h in pieces:
        for name in ("low", "high"):
            still = frozen and name == "low"
            mean, var = (np.full(WIDTH, 7.0), np.full(WIDTH, 8.0)) if still else (h.mean(0), h.var(0))
            for statistic, value in (("mean", mean), ("var", var)):
                path = f"batch_stats/{name}/{statistic}"
                found[path] = found.get(path, 0) + value * len(h) / total
            h = ((h - mean) / np.sqrt(var + EPSILON) * SCALE) ** 2
    return found


@pytest.mark.parametrize(("parts", "frozen", "momentum"), [(1, False, 0.9), (1, True, 0.99), (2, False, 0.0)])
def test_the_mean_over_batches_whatever_the_momentum(x64: None, parts: int, frozen: bool, momentum: float) -> None:
    network = Norms(momentum)
    state = started(network)
    after = recalibrated(network, state, accumulate=parts, frozen=("low",) if frozen else ())
    found = flatten(after.averaged_model_state)
    expected = by_hand(parts, frozen)
    for path, value in expected.items():
        np.testing.assert_allclose(found[path], value, rtol=1e-9, atol=1e-12, err_msg=path)
    assert found.keys() == {*expected, "passes/count"}
    parts_with_examples = sum(min(parts, count) for count in COUNTS)
    assert int(found["passes/count"]) == parts_with_examples  # as the module counts
    before, same = (dataclasses.replace(s, averaged_model_state={}) for s in (state, after))
    assert jax.tree.all(jax.tree.map(np.array_equal, before, same))
    swapped = after.with_eval_params()
    assert swapped.model_state is after.averaged_model_state and swapped.averaged_model_state is after.model_state
    assert jax.tree.all(jax.tree.map(np.array_equal, swapped.with_eval_params(), after))


def test_as_many_batches_as_asked_for(x64: None) -> None:
    found = flatten(recalibrated(Norms(), started(Norms()), batches=2).averaged_model_state)
    for path, value in by_hand(1, False, batches=2).items():
        np.testing.assert_allclose(found[path], value, rtol=1e-9, atol=1e-12, err_msg=path)


class Twice(nn.Module):
    """One layer, called on two halves."""

    @nn.compact
    def __call__(self, x: Any, valid: Any, deterministic: bool = True, frozen: Any = ()) -> Any:
        norm = nn.BatchNorm(use_running_average=deterministic, dtype=x.dtype, name="norm")
        return norm(x[:4]) + norm(x[4:])


def test_a_layer_that_is_called_twice_has_the_mean_of_both(x64: None) -> None:
    found = recalibrated(Twice(), started(Twice()), batches=1).averaged_model_state["batch_stats"]["norm"]
    halves = X[0].reshape(2, 4, WIDTH)
    np.testing.assert_allclose(found["mean"], halves.mean(1).mean(0), rtol=1e-9)
    np.testing.assert_allclose(found["var"], halves.var(1).mean(0), rtol=1e-9)


def test_how_many_batches_a_config_asks_for() -> None:
    config, schedule = defaults.finetune(), SimpleNamespace(steps_per_epoch=7, total=20)

    def planned() -> Any:
        return plan_recalibration(config, method(Norms()), schedule, ())  # type: ignore[arg-type]

    assert planned() is None
    config.average.kind = "swa"
    assert planned().batches == 7  # an epoch at most
    config.average.recalibrate_batches = 3
    assert planned().batches == 3
    config.average.recalibrate_batches = 0
    with pytest.raises(TlxError, match="recalibrate_batches is 0; it is a number of batches, at least 1"):
        planned()
