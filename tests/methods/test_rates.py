"""Rates go by the run's step: of a player that moves twice a step, and of one that is skipped. Against NumPy."""

from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tlx.methods.api import Update
from tlx.optim.groups import Group, make_optimizer
from tlx.training.state import init_state
from tlx.training.step import make_train_step

STEPS, PEAK = 6, 0.1
OWNER = {"twice/kernel": "twice", "rarely/kernel": "rarely"}


def rate(step: Any) -> Any:
    return PEAK * (1 - step / STEPS)


def losses(params: Any, batch: Any, carried: Any, context: Any) -> Any:
    """Plain sums, so that every gradient is 1; the second has examples in every other step only."""
    return {name: (params[name]["kernel"].sum(), batch["train"][name].sum()) for name in params}, carried


def update(player: str, **options: Any) -> Update:
    return Update(lambda *given: ({player: losses(*given)[0][player]}, given[2]), (player,), name=player, **options)


@pytest.mark.parametrize("name", ["sgd", "adamw", "rmsprop", "adafactor"])
def test_rates_go_by_the_runs_step(name: str, x64: None) -> None:
    params = {player: {"kernel": jnp.zeros(3)} for player in ("twice", "rarely")}
    rules, groups = (), {"default": Group(1.0, 0.0)}
    settings = {"momentum": 0.0} if name == "sgd" else {}
    tx = make_optimizer(
        params, rules, groups, learning_rate=PEAK, schedule=lambda s: rate(s) / PEAK, name=name, **settings
    )
    optimizers = {"twice": tx, "rarely": tx}
    method: Any = SimpleNamespace(updates=(update("twice", repeat=2), update("rarely", needs={"rarely": ("rarely",)})))
    step = jax.jit(make_train_step(method, optimizers, OWNER))
    state = init_state(params, OWNER, optimizers, {})
    before = jax.device_get(state.params)
    for taken in range(STEPS):
        there = float(taken % 2 == 0)
        batch = {"train": {"twice": jnp.ones(1), "rarely": jnp.full(1, there)}}
        state, _ = step(state, batch, jax.random.key(0))
        after = jax.device_get(state.params)
        moved = {player: (before[player]["kernel"] - after[player]["kernel"])[0] for player in params}
        before = after
        if name == "sgd":  # lr · gradient, twice and once
            assert moved["twice"] == pytest.approx(2 * rate(taken), rel=1e-9)
            assert moved["rarely"] == pytest.approx(there * rate(taken), rel=1e-9)
        elif name == "adamw":  # a constant gradient: Adam's step is the rate
            assert moved["twice"] == pytest.approx(2 * rate(taken), rel=1e-6)
            assert moved["rarely"] == pytest.approx(there * rate(taken), rel=1e-6)
        elif not there:
            assert moved["rarely"] == 0
    counts = [leaf for leaf in jax.tree.leaves(state.opt_state["twice"]) if np.ndim(leaf) == 0]
    assert int(max(counts)) >= 2 * STEPS if name in ("adamw", "adafactor") else counts
    schedules = [
        leaf
        for leaf in jax.tree.leaves(
            state.opt_state["twice"], is_leaf=lambda leaf: isinstance(leaf, optax.ScaleByScheduleState)
        )
        if isinstance(leaf, optax.ScaleByScheduleState)
    ]
    assert [int(schedule.count) for schedule in schedules] == [STEPS]  # one schedule, wherever an optimizer keeps it


def test_by_hand_a_count_serves() -> None:
    """Without `step=` the schedule reads how often `update` was called, as in plain optax."""
    params = {"a": {"kernel": jnp.zeros(2)}}
    tx = make_optimizer(params, (), {"default": Group()}, learning_rate=1.0, schedule=rate, name="sgd", momentum=0.0)
    state = tx.init(params)
    for taken in range(3):
        updates, state = tx.update({"a": {"kernel": jnp.ones(2)}}, state, params)
        np.testing.assert_allclose(updates["a"]["kernel"], -rate(taken), rtol=1e-6)
