"""Methods that combine the gradients of tasks, in the training step, against gradients of losses written anew."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from tests.methods.domains import prepare
from tests.methods.multitask.network import (
    BATCHES,
    GRADIENT_METHODS,
    NAMES,
    TASKS,
    batch_of,
    by_hand,
    loss,
    model_of,
    run,
    same,
)
from tlx.errors import TlxError
from tlx.methods import multitask
from tlx.methods.multitask import balance
from tlx.methods.multitask.gradients import pcgrad_orders
from tlx.methods.multitask.method import MultiTask
from tlx.training.means import Means


@pytest.mark.long
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("name", GRADIENT_METHODS)
def test_gradient_methods_combine_shared_gradients_alone(name: str, accumulate: int, x64: None) -> None:
    chosen, weigh = GRADIENT_METHODS[name]
    states, metrics = run(MultiTask(model_of(), TASKS, prepare, chosen), BATCHES, accumulate=accumulate)
    params = states[0].params
    for batch, state, logged in zip(BATCHES, states[1:], metrics, strict=True):
        for task in NAMES:
            assert float(logged[f"loss/{task}"]) == pytest.approx(float(loss(params, batch["train"], task)), rel=1e-9)
        params = by_hand(params, batch["train"], lambda g, losses: weigh(g), heads=False)
        same(state.params, params)


def test_mgda_by_the_gradients_of_features(x64: None) -> None:
    """The weights are MGDA's of ∂loss/∂features, written anew; a head has its own gradient."""
    states, metrics = run(MultiTask(model_of(), TASKS, prepare, balance.Mgda(upper_bound=True)), BATCHES)
    params = states[0].params
    for batch, state, logged in zip(BATCHES, states[1:], metrics, strict=True):
        rows, layer = batch["train"], params["backbone"]["dense_0"]
        hidden = jnp.tanh(rows["x"] @ layer["kernel"] + layer["bias"])

        def of_features(h: Any, name: str, params: Any = params, rows: Any = rows) -> Any:
            through = {"dense_0": {"kernel": jnp.eye(h.shape[1]), "bias": jnp.zeros(h.shape[1])}}
            return loss({**params, "backbone": through}, {**rows, "x": jnp.arctanh(h)}, name)

        gradients = jnp.stack([jax.grad(of_features)(hidden, name).ravel() for name in NAMES])
        for name in NAMES:
            assert float(logged[f"loss/{name}"]) == pytest.approx(float(loss(params, rows, name)), rel=1e-9)
        weights = multitask.mgda(gradients).weights
        assert np.ptp(weights) > 0.01
        params = by_hand(params, rows, lambda g, losses, w=weights: w, heads=False)
        same(state.params, params)


def test_features_of_a_part_of_a_batch_are_refused() -> None:
    method = MultiTask(model_of(), TASKS, prepare, balance.Mgda(upper_bound=True))
    with pytest.raises(TlxError, match=r"config\.train\.accumulate is 2"):
        run(method, BATCHES[:1], accumulate=2)


def test_cosines_of_shared_gradients_are_logged(x64: None) -> None:
    """Against the angle between gradients that are written anew; a task without examples has none."""
    batches = [BATCHES[0], batch_of(1, missing=("shape",))]
    states, metrics = run(MultiTask(model_of(), TASKS, prepare, balance.PcGrad()), batches)
    means = Means()
    for batch, state, logged in zip(batches, states[:-1], metrics, strict=True):
        means.add(logged)
        found = [jax.grad(loss)(state.params, batch["train"], name)["backbone"] for name in NAMES]
        rows = np.stack([ravel_pytree(tree)[0] for tree in found])
        for (i, one), (j, other) in itertools.combinations(enumerate(NAMES), 2):
            absent = "shape" in (one, other) and batch is batches[1]
            expected = np.nan if absent else rows[i] @ rows[j] / np.linalg.norm(rows[i]) / np.linalg.norm(rows[j])
            assert float(logged[f"cosine/{one}/{other}"]) == pytest.approx(expected, rel=1e-6, nan_ok=True)
    taken = means.take()
    assert taken["train/cosine/colour/shape"] == float(metrics[0]["cosine/colour/shape"])
    both = [float(logged["cosine/colour/size"]) for logged in metrics]
    assert taken["train/cosine/colour/size"] == pytest.approx(np.mean(both))
    losses = run(MultiTask(model_of(), TASKS, prepare), BATCHES[:1])[1]
    assert not any(name.startswith("cosine/") for name in losses[0])


@pytest.mark.long
def test_pcgrad_draws_a_new_order_each_step(x64: None) -> None:
    states, _ = run(MultiTask(model_of(), TASKS, prepare, balance.PcGrad()), BATCHES)
    params, base = states[0].params, jax.random.wrap_key_data(states[0].method_state["key"])
    for index, (batch, state) in enumerate(zip(BATCHES, states[1:], strict=True)):
        key = jax.random.fold_in(base, index)
        params = by_hand(params, batch["train"], lambda g, losses, k=key: multitask.pcgrad(g, k).weights, heads=False)
        same(state.params, params)
    assert len({np.asarray(pcgrad_orders(jax.random.fold_in(base, i), 3)).tobytes() for i in range(3)}) == 3
