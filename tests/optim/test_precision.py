"""Schedules to the last bits: in float64 under x64, and in float32 to its own precision at both ends of a long run."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tlx.errors import TlxError
from tlx.optim.averages import ema, swa
from tlx.optim.groups import Group, make_optimizer
from tlx.optim.schedules import SCHEDULES, make_schedule

TOTAL, WARM = 10_000, 3_000
AFTER = TOTAL - WARM


def closed(name: str, step: int) -> float:
    """The schedules' formulas in Python's floats, from the remaining steps: Python's numbers are exact enough there."""
    if name == "one_cycle":
        low, end = 1 / 25, 1 / 25 / 1e4
        if step < WARM:
            return low + (1 - low) * math.sin(math.pi / 2 * step / WARM) ** 2
        return end + (1 - end) * math.sin(math.pi / 2 * (TOTAL - step) / AFTER) ** 2
    if step < WARM:
        return step / WARM
    left, since = (TOTAL - step) / AFTER, step - WARM
    third = round(AFTER / 3)
    return {
        "constant": 1.0,
        "linear": left,
        "polynomial": left**2,
        "cosine": math.sin(math.pi / 2 * left) ** 2,
        "cosine_restarts": math.sin(math.pi / 2 * (1 - since % (AFTER // 4) / (AFTER // 4))) ** 2 if left else 0.0,
        "inverse_sqrt": math.sqrt(WARM / step),
        "inverse": (1 + 10 * since / AFTER) ** -0.75,
        "step": 0.1 ** (since // third),
        "exponential": 0.1 ** (since / third),
    }[name]


SETTINGS: dict[str, Any] = {"polynomial": {"power": 2.0}, "cosine_restarts": {"cycles": 4}}
POINTS = (0, 1, 7, 2_999, 3_000, 3_001, 4_749, 4_750, 6_500, 9_000, 9_998, 9_999, 10_000)


@pytest.mark.parametrize("name", SCHEDULES)
def test_float32_at_both_ends(name: str) -> None:
    schedule = jax.jit(make_schedule(name, 1.0, TOTAL, WARM, **SETTINGS.get(name, {})))
    found = [schedule(jnp.int32(step)) for step in POINTS]
    np.testing.assert_allclose(found, [closed(name, step) for step in POINTS], rtol=1e-6)


@pytest.mark.parametrize("name", SCHEDULES)
def test_float64_in_the_optimizer(name: str, x64: None) -> None:
    """The rate that an optimizer takes at a step of int32, of the run and of a group's own schedule: SGD of a gradient
    of 1 moves by it."""
    schedule = make_schedule(name, 1.0, TOTAL, WARM, **SETTINGS.get(name, {}))
    params = {"a": {"kernel": jnp.zeros(1, jnp.float64)}, "b": {"kernel": jnp.zeros(1, jnp.float64)}}
    groups = {"default": Group(), "own": Group(schedule=schedule)}
    for step in (1, 2_999, 3_001, 9_999):
        tx = make_optimizer(
            params, (("b/.*", "own"),), groups, learning_rate=0.3, schedule=schedule, name="sgd", momentum=0.0,
            since={"a/kernel": step, "b/kernel": step},
        )  # fmt: skip
        updates, _ = tx.update(jax.tree.map(jnp.ones_like, params), tx.init(params), params)
        for leaf in jax.tree.leaves(updates):
            np.testing.assert_allclose(leaf, -0.3 * closed(name, step), rtol=1e-12)


@pytest.mark.parametrize("given", [lambda step: 1 / (3 + step), jnp.array([0.3, 0.2, 0.1]).__getitem__])
def test_a_users_own_schedule_of_integer_steps(given: Any, x64: None) -> None:
    """Whether it computes with the step or looks a rate up by it."""
    params = {"a": {"kernel": jnp.zeros(1, jnp.float64)}}
    tx = make_optimizer(
        params, (), {"default": Group()}, learning_rate=1.0, schedule=given, name="sgd", momentum=0.0,
        since={"a/kernel": 2},
    )  # fmt: skip
    updates, _ = tx.update({"a": {"kernel": jnp.ones(1, jnp.float64)}}, tx.init(params), params)
    expected = -1 / 5 if callable(given) and not hasattr(given, "__self__") else -float(np.float32(0.1))
    np.testing.assert_allclose(updates["a"]["kernel"], expected, rtol=1e-12)


def test_torchs_adamw_with_a_linear_schedule_in_float64(x64: None) -> None:
    """torch.optim.AdamW and LambdaLR as transformers' get_linear_schedule_with_warmup has it, written out."""
    random = np.random.default_rng(0)
    p, total, warm = random.normal(size=7), 5, 2
    params = {"a": {"kernel": jnp.asarray(p)}}
    schedule = make_schedule("linear", 1.0, total, warm)
    tx = make_optimizer(params, (), {"default": Group(weight_decay=0.1)}, learning_rate=1e-2, schedule=schedule)
    state, m, v = tx.init(params), np.zeros(7), np.zeros(7)
    for step in range(5):
        g = random.normal(size=7)
        rate = 1e-2 * (step / warm if step < warm else (total - step) / (total - warm))
        p = p * (1 - rate * 0.1)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        p = p - rate / (1 - 0.9 ** (step + 1)) * m / (np.sqrt(v) / math.sqrt(1 - 0.999 ** (step + 1)) + 1e-8)
        updates, state = tx.update({"a": {"kernel": jnp.asarray(g)}}, state, params)
        params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(params["a"]["kernel"], p, rtol=1e-14)


def test_averages_in_float64(x64: None) -> None:
    """The share of a step is a function of the same int32 count."""
    assert float(ema(0.9999)(jnp.int32(3))) == 9 / 13
    assert float(swa(1, 1)(jnp.int32(3))) == 1 / 3


@pytest.mark.parametrize("warm", [0, 300])
def test_optaxs_own(warm: int) -> None:
    """Each by its name in optax, at every tenth step, to what float32 leaves of optax's."""
    after = 1000 - warm
    each = after // 5
    others = {
        "one_cycle": optax.cosine_onecycle_schedule(1000, 1.0, pct_start=0.3),
        "cosine_restarts": optax.sgdr_schedule(
            [
                {"init_value": 0.5**i, "peak_value": 0.5**i, "warmup_steps": 0, "decay_steps": n, "end_value": 0.05}
                for i, n in enumerate((each, 4 * each))
            ]
        ),
        "step": optax.exponential_decay(1.0, 70, 0.5, staircase=True, end_value=0.05),
        "exponential": optax.exponential_decay(1.0, 70, 0.5, end_value=0.05),
        "linear": optax.linear_schedule(1.0, 0.05, after),
        "cosine": optax.cosine_decay_schedule(1.0, after, 0.05),
        "polynomial": optax.polynomial_schedule(1.0, 0.05, 3.0, after),
    }
    settings: dict[str, Any] = {
        "final_fraction": 0.05, "power": 3.0, "gamma": 4.0, "cycles": 2, "cycle_length": 4.0, "cycle_peak": 0.5,
        "drop": 0.5, "drop_every": 70,
    }  # fmt: skip
    for name, other in others.items():
        if name == "one_cycle" and not warm:
            continue
        schedule = make_schedule(name, 1.0, 1000, warm, **settings)
        first = 0 if name == "one_cycle" else warm
        steps = np.arange(first, 1001, 10)
        np.testing.assert_allclose(
            [schedule(step) for step in steps], [other(step - first) for step in steps], atol=2e-6, err_msg=name
        )


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("cosine_restarts", {"cycles": 0}, "needs at least 1 cycle"),
        ("cosine_restarts", {"cycles": 200}, "100 steps cannot be split into 200 cycles"),
        ("step", {"drop": 1.5}, "the schedule's drop is 1.5"),
        ("step", {"drop_every": 0}, "drop_every 0"),
        ("one_cycle", {"div_factor": 0.0}, "div_factor is 0.0"),
        ("linear", {"delta": 0.1}, "no schedule has a setting delta; the settings are final_fraction, power"),
    ],
)
def test_refused(name: str, settings: Any, message: str) -> None:
    with pytest.raises(TlxError, match=message):
        make_schedule(name, 1.0, 100, **settings)
