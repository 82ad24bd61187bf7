"""Methods that weigh the losses of tasks, in the training step, in float64, against losses written anew."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.methods.domains import KEY, prepare, started
from tests.methods.multitask.network import (
    BATCHES,
    NAMES,
    RATE,
    TASKS,
    batch_of,
    by_hand,
    loss,
    model_of,
    run,
    same,
)
from tlx.methods import multitask
from tlx.methods.multitask import balance
from tlx.methods.multitask.method import MultiTask, UncertaintyWeighted
from tlx.training.step import make_train_step


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("variant", ["paper", "softmax"])
def test_gradnorm_weighs_heads_too(accumulate: int, variant: str, x64: None) -> None:
    chosen = balance.GradNorm(alpha=0.5, rate=0.05, variant=variant)
    states, _ = run(MultiTask(model_of(), TASKS, prepare, chosen), BATCHES, accumulate=accumulate)
    params, carried = states[0].params, {"p": jnp.ones(3) if variant == "paper" else jnp.zeros(3), "first": None}

    def weigh(g: Any, losses: Any) -> Any:
        carried["first"] = losses if carried["first"] is None else carried["first"]
        weights, carried["p"] = multitask.gradnorm(
            g, losses, carried["first"], carried["p"], alpha=0.5, rate=0.05, variant=variant
        )
        return weights

    for batch, state in zip(BATCHES, states[1:], strict=True):
        params = by_hand(params, batch["train"], weigh, heads=True)
        same(state.params, params)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_equal_weights_are_the_sum(accumulate: int, x64: None) -> None:
    tasks = {name: dataclasses.replace(task, weight=1.0 + index) for index, (name, task) in enumerate(TASKS.items())}
    states, _ = run(MultiTask(model_of(), tasks, prepare), BATCHES, accumulate=accumulate)
    params = states[0].params
    for batch, state in zip(BATCHES, states[1:], strict=True):
        params = by_hand(params, batch["train"], lambda g, losses: jnp.array([1.0, 2.0, 3.0]), heads=True)
        same(state.params, params)


def test_rlw_draws_new_weights_each_step(x64: None) -> None:
    states, _ = run(MultiTask(model_of(), TASKS, prepare, balance.RandomWeights("uniform")), BATCHES)
    params, base = states[0].params, jax.random.wrap_key_data(states[0].method_state["key"])
    for index, (batch, state) in enumerate(zip(BATCHES, states[1:], strict=True)):
        weights = multitask.rlw(jax.random.fold_in(base, index), 3, distribution="uniform")
        params = by_hand(params, batch["train"], lambda g, losses, w=weights: w, heads=True)
        same(state.params, params)


def test_dwa_weighs_by_the_last_two_epochs(x64: None) -> None:
    """Three epochs of two steps; the weights of the first two are 1."""
    method = MultiTask(model_of(), TASKS, prepare, balance.DynamicWeightAverage(temperature=0.5))
    optimizers = dict.fromkeys(method.players, optax.sgd(RATE))
    state, player_of = started(method, method.model, optimizers)
    step = jax.jit(make_train_step(method, optimizers, player_of))
    params, means = state.params, []
    assert method.before_epoch is not None
    for epoch in range(3):
        state = dataclasses.replace(state, method_state=method.before_epoch(state.method_state, None, epoch, None))
        weights = np.ones(3)
        if epoch == 2:
            powers = np.exp(means[1] / means[0] / 0.5)
            weights = 3 * powers / powers.sum()
            assert np.ptp(weights) > 0.01
        seen = []
        for batch in (batch_of(2 * epoch), batch_of(2 * epoch + 1)):
            seen.append([float(loss(params, batch["train"], name)) for name in NAMES])
            params = by_hand(params, batch["train"], lambda g, losses, w=weights: jnp.asarray(w), heads=True)
            state, _ = step(state, batch, KEY)
            same(state.params, params)
        means.append(np.mean(seen, axis=0))


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("after", ["same_batch", "next_batch"])
def test_famo_moves_its_logits_by_the_losses_after_the_step(after: str, accumulate: int, x64: None) -> None:
    chosen = balance.Famo(rate=2.0, decay=0.01, after=after)
    states, metrics = run(MultiTask(model_of(), TASKS, prepare, chosen), BATCHES, accumulate=accumulate)
    params, logits, before = states[0].params, jnp.zeros(3), None
    for batch, state in zip(BATCHES, states[1:], strict=True):
        losses = jnp.stack([loss(params, batch["train"], name) for name in NAMES])
        if after == "next_batch" and before is not None:
            logits = multitask.famo_logits(logits, before, losses, rate=2.0, decay=0.01)
        weights = multitask.famo(losses, logits)
        params = by_hand(params, batch["train"], lambda g, losses, w=weights: w, heads=True)
        same(state.params, params)
        before = losses
        if after == "same_batch":
            moved = jnp.stack([loss(params, batch["train"], name) for name in NAMES])
            logits = multitask.famo_logits(logits, losses, moved, rate=2.0, decay=0.01)
        np.testing.assert_allclose(state.method_state["logits"], logits, rtol=1e-7)
    assert np.ptp(logits) > 1e-3 and all(int(logged["skipped"]) == 0 for logged in metrics)


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("variant", ["paper", "half", "log1p"])
def test_uncertainty_trains_a_variance_a_task(variant: str, accumulate: int, x64: None) -> None:
    method = UncertaintyWeighted(model_of(), TASKS, prepare, variant=variant)
    states, metrics = run(method, BATCHES, accumulate=accumulate)

    def objective(params: Any, s: Any, rows: Any) -> Any:
        losses = jnp.stack([loss(params, rows, name) for name in NAMES])
        return multitask.uncertainty(losses, s, jnp.array([True, True, False]), variant=variant).sum()

    params, s = {name: states[0].params[name] for name in ("backbone", "heads")}, np.zeros(3)
    s = jnp.stack([states[0].params["aux"]["uncertainty"][name]["log_variance"] for name in NAMES])
    for batch, state, logged in zip(BATCHES, states[1:], metrics, strict=True):
        plain = sum(float(loss(params, batch["train"], name)) for name in NAMES)
        assert float(logged["loss"]) == pytest.approx(plain, rel=1e-9)
        slopes = jax.grad(objective, (0, 1))(params, s, batch["train"])
        params, s = jax.tree.map(lambda p, g: p - RATE * g, (params, s), slopes)
        same(state.params, params)
        found = [state.params["aux"]["uncertainty"][name]["log_variance"] for name in NAMES]
        np.testing.assert_allclose(found, s, rtol=1e-7)
