"""The step: gradients, clipping, freezing, devices. References: finite differences, NumPy, one device against eight."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.tiny import SMALL
from tlx.methods.api import Update
from tlx.methods.finetune import FineTune
from tlx.models.heads import Head
from tlx.models.model import build_model
from tlx.optim.averages import ema
from tlx.optim.groups import Group, assign_groups, make_optimizer
from tlx.parallel.layout import make_layout
from tlx.params.paths import flatten, unflatten
from tlx.pretrained.load import random_params
from tlx.training.state import EVAL_PARAMS, State, assign_players, init_state
from tlx.training.step import make_train_step

GROUPS = {"default": Group(1.0, 0.1)}
LOWER = (("backbone/embeddings/.*", "frozen"), ("backbone/encoder/layer/0/.*", "frozen"))


def batch_of(rows: int, seed: int = 0, valid: int | None = None) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    lengths = random.integers(3, 9, rows)
    mask = (np.arange(8) < lengths[:, None]).astype(np.int32)
    return {
        "train": {
            "input_ids": (random.integers(5, 20, (rows, 8)) * mask).astype(np.int32),
            "attention_mask": mask,
            "label": random.integers(0, 3, rows).astype(np.int32),
            "valid": np.arange(rows) < (rows if valid is None else valid),
        }
    }


def prepare(rows: Any, key: Any) -> tuple[dict[str, Any], Any]:
    return {name: rows[name] for name in ("input_ids", "attention_mask") if name in rows}, rows


def make(
    rules: Any = (), clip: float | None = None, rate: float = 1e-2, dropout: float = 0.0,
    param_dtype: Any = jnp.float32, accumulate: int = 1, average: Any = None,
) -> Any:  # fmt: skip
    config = dataclasses.replace(SMALL, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout)
    model = build_model(config, {"default": Head("classification", 3)})
    params = random_params(model, 0, param_dtype)
    groups = assign_groups(params, rules, GROUPS)
    method = FineTune(model, {"default": "label"}, prepare)
    player_of = assign_players(params, groups, method.players)
    tx = make_optimizer(params, rules, GROUPS, learning_rate=rate)
    state = init_state(params, player_of, {"model": tx}, {}, averaged=average is not None)
    step = make_train_step(method, {"model": tx}, player_of, clip=clip, accumulate=accumulate, average=average)
    return state, step, method, groups


def over(layout: Any, step: Any) -> Any:
    replicated = layout.replicated
    return jax.jit(step, in_shardings=(replicated, layout.batch, replicated), out_shardings=replicated)


@pytest.mark.parametrize("devices", [1, 8])
def test_frozen_leaves_keep_every_bit(devices: int) -> None:
    """A hundred steps of AdamW with decay, clipping, norms that are logged, accumulation and an average."""
    layout = make_layout(devices)
    state, step, _, groups = make(LOWER, clip=0.01, dropout=0.1, accumulate=2, average=ema(0.9))
    before = {path: np.array(leaf) for path, leaf in flatten(state.params).items()}
    state, step = jax.device_put(state, layout.replicated), over(layout, step)
    for seed in range(100):
        state, metrics = step(state, batch_of(16, seed), jax.random.key(0))
    assert float(metrics["gradient_norm"]) > 0
    learnt = {path for path, group in groups.items() if group != "frozen"}
    assert {path for path, leaf in flatten(state.averages[EVAL_PARAMS]).items() if leaf is not None} == learnt
    for path, leaf in flatten(state.with_eval_params().params).items():  # those of the average, with what is frozen
        assert np.array_equal(before[path], leaf) == (path not in learnt) or "key/bias" in path, path
    for path, leaf in flatten(state.params).items():
        if groups[path] == "frozen":
            assert np.array_equal(before[path], leaf), path
        elif "key/bias" not in path:
            assert not np.array_equal(before[path], leaf), path
    assert sum(leaf.size for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim) == 2 * sum(
        leaf.size for path, leaf in before.items() if groups[path] != "frozen"
    )


def test_gradient_by_finite_differences(x64: None) -> None:
    """The step of plain gradient descent is the derivative of the mean loss over the valid rows."""
    state, _, method, _ = make(param_dtype=jnp.float64)
    player_of = dict.fromkeys(flatten(state.params), "model")
    state = State(state.step, state.params, {"model": optax.sgd(1.0).init(state.params)}, {})
    step = make_train_step(method, {"model": optax.sgd(1.0)}, player_of)
    batch = batch_of(6, valid=4)
    after, metrics = jax.jit(step)(state, batch, jax.random.key(0))
    gradient = jax.tree.map(lambda a, b: np.asarray(a - b), state.params, after.params)
    norm = np.sqrt(sum((g**2).sum() for g in jax.tree.leaves(gradient)))
    np.testing.assert_allclose(metrics["gradient_norm"], norm, rtol=1e-9)

    inputs = {k: batch["train"][k][:4] for k in ("input_ids", "attention_mask")}
    answer = jax.jit(lambda params: method.model.apply({"params": params}, **inputs).logits["default"])

    def loss(params: Any) -> float:
        logits = np.asarray(answer(params))
        label = batch["train"]["label"][:4]
        return float(np.mean(np.log(np.exp(logits).sum(-1)) - logits[np.arange(4), label]))

    assert loss(state.params) == pytest.approx(float(metrics["loss"]), rel=1e-12)
    for path in (
        "backbone/encoder/layer/0/attention/self/query/kernel",
        "heads/default/output/bias",
        "backbone/pooler/dense/kernel",
    ):
        leaf, g = np.asarray(flatten(state.params)[path]), flatten(gradient)[path]
        index = np.unravel_index(np.abs(g).argmax(), g.shape)
        sides = []
        for sign in (1, -1):
            moved = leaf.copy()
            moved[index] += sign * 1e-5
            sides.append(loss(unflatten({**flatten(state.params), path: jnp.asarray(moved)})))
        assert (sides[0] - sides[1]) / 2e-5 == pytest.approx(g[index], rel=1e-6), path


@pytest.mark.parametrize(("value", "norm"), [(1e-3, None), (1e-3, 2e-3), (None, 2e-3)])
def test_clipping_by_value_and_by_norm(value: float | None, norm: float | None) -> None:
    """A step of plain gradient descent is the clipped gradient: by entry first, then, of what that leaves, by norm,
    over what learns alone; the norm that is logged is from before."""
    slopes = {"a": np.array([3.0, -4e-4, 5e-4]), "b": np.array([-12.0, 2e-4]), "frozen": np.array([7.0])}

    def losses(params: Any, batch: Any, method_state: Any, key: Any) -> Any:
        return {"slope": (sum((params[name] * slopes[name]).sum() for name in slopes), 1.0)}, method_state

    params = {name: jnp.zeros(len(slope)) for name, slope in slopes.items()}
    player_of = {"a": "model", "b": "model", "frozen": None}
    method: Any = SimpleNamespace(updates=(Update(losses, ("model",)),))
    optimizers = {"model": optax.sgd(1.0)}
    step = make_train_step(method, optimizers, player_of, clip=norm, clip_value=value)
    after, metrics = step(
        init_state(params, player_of, optimizers, {}), {"train": {"valid": jnp.ones(1)}}, jax.random.key(0)
    )
    expected = np.concatenate([slopes["a"], slopes["b"]])
    np.testing.assert_allclose(metrics["gradient_norm"], np.linalg.norm(expected), rtol=1e-6)
    if value is not None:
        expected = np.clip(expected, -value, value)
    if norm is not None:
        expected = expected * min(1.0, norm / np.linalg.norm(expected))
    np.testing.assert_allclose(-np.concatenate([after.params["a"], after.params["b"]]), expected, rtol=1e-5)
    assert not np.asarray(after.params["frozen"]).any()


@pytest.mark.parametrize(
    "valid", [pytest.param(12, marks=pytest.mark.long), 7, pytest.param(1, marks=pytest.mark.long)]
)
def test_accumulated_is_one_large_batch(x64: None, valid: int) -> None:
    """Micro-batches of unequal content (with one valid row, most hold none) against the whole batch at once."""
    state, _, method, _ = make(param_dtype=jnp.float64)
    player_of = dict.fromkeys(flatten(state.params), "model")
    state = State(state.step, state.params, {"model": optax.sgd(1.0).init(state.params)}, {})
    found = {}
    for parts in (1, 2, 4, 12):
        step = make_train_step(method, {"model": optax.sgd(1.0)}, player_of, clip=0.5, accumulate=parts)
        found[parts] = jax.jit(step)(state, batch_of(12, valid=valid), jax.random.key(0))
    for parts in (2, 4, 12):
        for a, b in zip(jax.tree.leaves(found[1]), jax.tree.leaves(found[parts]), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_accumulating_costs_no_second_pass() -> None:
    """Counting the examples of all micro-batches first runs no network: less memory, and next to no FLOPs more."""
    state, _, method, _ = make()
    player_of = dict.fromkeys(flatten(state.params), "model")
    state = State(state.step, state.params, {"model": optax.sgd(1.0).init(state.params)}, {})
    compiled = {}
    for parts in (1, 8):
        step = make_train_step(method, {"model": optax.sgd(1.0)}, player_of, accumulate=parts)
        compiled[parts] = jax.jit(step).lower(state, batch_of(256), jax.random.key(0)).compile()
    flops = {parts: step.cost_analysis()["flops"] for parts, step in compiled.items()}
    memory = {parts: step.memory_analysis().temp_size_in_bytes for parts, step in compiled.items()}
    assert flops[8] < 1.1 * flops[1] / 8 + 1e6  # a loop's body is counted once
    assert memory[8] < memory[1] / 3


def test_clipping_scales_the_trainable_gradient_to_the_norm(x64: None) -> None:
    state, _, method, _ = make(param_dtype=jnp.float64)
    player_of = {p: None if p.startswith("backbone/embeddings") else "model" for p in flatten(state.params)}
    moved = {}
    for clip in (None, 0.01):
        start = init_state(state.params, player_of, {"model": optax.sgd(1.0)}, {})
        after, _ = jax.jit(make_train_step(method, {"model": optax.sgd(1.0)}, player_of, clip=clip))(
            start, batch_of(6), jax.random.key(0)
        )
        moved[clip] = np.concatenate(
            [np.ravel(a - b) for a, b in zip(*map(jax.tree.leaves, (after.params, state.params)), strict=True)]
        )
    assert np.linalg.norm(moved[0.01]) == pytest.approx(0.01, rel=1e-9)
    np.testing.assert_allclose(moved[0.01] / 0.01, moved[None] / np.linalg.norm(moved[None]), atol=1e-12)


def test_a_layout_of_one_device_costs_nothing() -> None:
    """The step costs what it does without any layout, in FLOPs, memory traffic and memory."""
    state, step, _, _ = make(LOWER, clip=0.5, dropout=0.1)
    layout = make_layout(1).with_params(state.params)
    given = (state, batch_of(16), jax.random.key(0), None)
    costs = []
    for jitted in (jax.jit(step, donate_argnums=0), layout.train_step(step, state, (given[2], None))):
        compiled = jitted.lower(*given).compile()
        found: Any = compiled.cost_analysis()
        costs.append((found["flops"], found["bytes accessed"], compiled.memory_analysis().temp_size_in_bytes))
    assert costs[0] == costs[1] and costs[0][0] > 0


LAYOUTS = {
    "jit": {"data": 8},
    "pmap": {"data": 8, "mode": "pmap"},
    "fsdp": {"data": 2, "fsdp": 4, "rules": ((".*", "largest"),)},
}


@pytest.mark.parametrize("accumulate", [1, pytest.param(2, marks=pytest.mark.long)])
@pytest.mark.parametrize("name", LAYOUTS)
def test_eight_devices_as_one(name: str, accumulate: int, x64: None) -> None:
    """Dropout included: masks do not depend on how a batch is spread. The last rows are padding, so that the devices
    have unequal counts."""
    ends = []
    for options in ({"data": 1}, LAYOUTS[name]):
        state, step, _, _ = make(
            LOWER, clip=0.5, dropout=0.1, param_dtype=jnp.float64, accumulate=accumulate, average=ema(0.9)
        )
        layout = make_layout(**options).with_params(state.params)
        key = layout.put(jax.random.key(0))
        compiled = layout.train_step(step, state, (key, None))
        state = layout.put(state)
        cut = [leaf for leaf in jax.tree.leaves(state) if not leaf.sharding.is_fully_replicated]
        assert bool(cut) == (layout.fsdp_size > 1)
        for seed in range(10):
            batch = layout.put_batch(batch_of(16, seed, valid=13))
            state, metrics = compiled(state, batch, key, None)
        ends.append((layout.gather(state), layout.gather(metrics)))
    assert ends[0][1]["loss"] == pytest.approx(ends[1][1]["loss"], rel=1e-9)
    assert ends[0][1]["gradient_norm"] == pytest.approx(ends[1][1]["gradient_norm"], rel=1e-9)
    one, eight = (jax.tree_util.tree_leaves_with_path(end[0]) for end in ends)
    for (keys, a), (_, b) in zip(one, eight, strict=True):
        path = jax.tree_util.keystr(keys)
        if "'key']['bias']" not in path:  # true gradient zero: Adam turns rounding into steps
            np.testing.assert_allclose(a, b, atol=1e-9, err_msg=path)
