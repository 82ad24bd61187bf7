"""Rates go by the run's step: of a player that moves twice a step, and of one that is skipped. Against NumPy."""

from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tlx.methods.api import Update
from tlx.optim.groups import Group, make_optimizer, rate_tables
from tlx.training.state import init_state
from tlx.training.step import Rates, make_train_step

STEPS, PEAK = 6, 0.1
OWNER = {"twice/kernel": "twice", "rarely/kernel": "rarely"}


def rate(step: Any) -> Any:
    return PEAK * (1 - step / STEPS)


def losses(params: Any, batch: Any, carried: Any, context: Any) -> Any:
    """Plain sums, so that every gradient is 1; the second has examples in every other step only."""
    return {name: (params[name]["kernel"].sum(), batch["train"][name].sum()) for name in params}, carried


def update(player: str, **options: Any) -> Update:
    return Update(lambda *given: ({player: losses(*given)[0][player]}, given[2]), (player,), name=player, **options)


@pytest.mark.parametrize("as_arrays", [False, True])
@pytest.mark.parametrize("name", ["sgd", "adamw", "rmsprop", "adafactor"])
def test_rates_go_by_the_runs_step(name: str, as_arrays: bool, x64: None) -> None:
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
    tables = rate_tables(
        dict.fromkeys(OWNER, "default"), groups, STEPS, learning_rate=PEAK, schedule=lambda s: rate(s) / PEAK
    )
    rates = (None, Rates(tables, jnp.asarray(STEPS))) if as_arrays else ()
    for taken in range(STEPS):
        there = float(taken % 2 == 0)
        batch = {"train": {"twice": jnp.ones(1), "rarely": jnp.full(1, there)}}
        state, _ = step(state, batch, jax.random.key(0), *rates)
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


def test_runs_of_other_rates_and_lengths_share_one_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """The progress and the rates come from the arrays, and one compiled step serves all runs."""
    params, groups = {"a": {"kernel": jnp.zeros(2)}}, {"default": Group(), "own": Group(learning_rate=3.0)}
    tx = make_optimizer(params, (), groups, learning_rate=lambda s: s, name="sgd", momentum=0.0)
    owner = {"a/kernel": "model"}

    def losses(params: Any, batch: Any, carried: Any, context: Any) -> Any:
        return {"sum": (params["a"]["kernel"].sum() * (1 + context.progress), jnp.ones(()))}, carried

    step = jax.jit(make_train_step(SimpleNamespace(updates=(Update(losses, ("model",)),)), {"model": tx}, owner))  # type: ignore[arg-type]
    for total, peak in ((4, 0.5), (1000, 2.0)):
        tables = rate_tables({"a/kernel": "default"}, groups, total, learning_rate=lambda s, peak=peak: peak * (1 + s))
        state = init_state(params, owner, {"model": tx}, {})
        for taken in range(3):
            old = np.asarray(state.params["a"]["kernel"])
            state, _ = step(state, {"train": {"x": jnp.ones((1, 1))}}, jax.random.key(0), None, Rates(tables, total))  # type: ignore[arg-type]
            expected = old - peak * (1 + taken) * (1 + taken / total)
            np.testing.assert_allclose(state.params["a"]["kernel"], expected, rtol=1e-6)
    assert step._cache_size() == 1


def test_a_table_is_the_schedule_at_every_step() -> None:
    """Of groups with rates, multipliers and first steps of their own; the last rate fills it."""
    groups = {"default": Group(2.0), "own": Group(learning_rate=0.25), "slow": Group(schedule=lambda s: 0.5**s)}
    assigned = {"a": "default", "b": "own", "c": "slow", "d": "default", "e": "frozen"}
    tables = rate_tables(assigned, groups, 5, learning_rate=0.1, schedule=lambda s: 1 / (1 + s), since={"d": 2})
    assert {name: table.shape for name, table in tables.items()} == dict.fromkeys(
        ("default", "default@2", "own", "slow"), (1024,)
    )
    steps = np.minimum(np.arange(1024), 4)
    for name, expected in {
        "default": 0.2 / (1 + steps), "default@2": 0.2 / (1 + steps), "own": 0.25 / (1 + steps),
        "slow": 0.1 * 0.5**steps,
    }.items():  # fmt: skip
        np.testing.assert_allclose(tables[name], expected, rtol=1e-6, err_msg=name)


def test_by_hand_a_count_serves() -> None:
    """Without `step=` the schedule reads how often `update` was called, as in plain optax."""
    params = {"a": {"kernel": jnp.zeros(2)}}
    tx = make_optimizer(params, (), {"default": Group()}, learning_rate=1.0, schedule=rate, name="sgd", momentum=0.0)
    state = tx.init(params)
    for taken in range(3):
        updates, state = tx.update({"a": {"kernel": jnp.ones(2)}}, state, params)
        np.testing.assert_allclose(updates["a"]["kernel"], -rate(taken), rtol=1e-6)
