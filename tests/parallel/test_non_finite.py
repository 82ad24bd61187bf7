"""Skipped updates on several devices: all of them skip the same ones, and end as one device does.

A bad number is in one row, which lies on one of eight devices.
"""

from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tlx.methods.api import Carried, Context, Update
from tlx.optim.averages import ema
from tlx.parallel.layout import Layout, make_layout
from tlx.training.state import EVAL_PARAMS, State, init_state
from tlx.training.step import make_train_step

ROWS, WIDTH, OUT, STEPS = 16, 8, 16, 6
random = np.random.default_rng(0)
X, Y = random.standard_normal((STEPS, ROWS, WIDTH)), random.standard_normal((STEPS, ROWS, OUT))
START = {"w": random.standard_normal((WIDTH, OUT)), "b": random.standard_normal(OUT)}
OWNER = dict.fromkeys(START, "model")
NAN, KINK = 1, 4  # steps: a NaN in a row of x; an infinite slope of a finite loss
LAYOUTS: dict[str, dict[str, Any]] = {
    "one": {"data": 1},
    "jit": {},
    "fsdp": {"data": 2, "fsdp": 4, "rules": ((".*", "largest"),)},
    "pmap": {"mode": "pmap"},
}


def squares(params: Any, batch: Any, carried: Carried, context: Context) -> Any:
    """A sum of squares. A row's `kink` of 1 adds nothing to the loss, and an infinite slope."""
    rows = batch["train"]
    total = ((rows["x"] @ params["w"] + params["b"] - rows["y"]) ** 2).sum()
    at = jnp.where(rows["kink"] > 0, 0.0 * params["w"].sum(), 1.0)
    total += (jnp.sqrt(at) - jnp.sqrt(jax.lax.stop_gradient(at))).sum()
    return {"squares": (total, rows["valid"].sum())}, carried


def batch_of(step: int) -> Any:
    x, kink = X[step].copy(), np.zeros(ROWS)
    x[5, 1] = np.nan if step == NAN else x[5, 1]  # a row of the third device
    kink[11] = step == KINK  # a row of the sixth
    return {"train": {"x": x, "y": Y[step], "valid": np.ones(ROWS), "kink": kink}}


def trained(layout: Layout, parts: int, left_out: tuple[int, ...] = ()) -> tuple[State, list[int]]:
    """The state after all steps, some of which may only count, and what each step says that it skipped."""
    layout, optimizers = layout.with_params(START), {"model": optax.adam(0.1)}
    method: Any = SimpleNamespace(updates=(Update(squares, ("model",)),))
    step = make_train_step(method, optimizers, OWNER, clip=0.5, average=ema(0.9, False), accumulate=parts)
    state = layout.put(init_state(jax.tree.map(jnp.asarray, START), OWNER, optimizers, {}, averaged=True))
    key = layout.put(jax.random.key(0))
    compiled, skipped = layout.train_step(step, state, (key, None)), []
    for index in range(STEPS):
        if index in left_out:
            state = state.replace(step=state.step + 1)
            continue
        state, metrics = compiled(state, layout.put_batch(batch_of(index)), key, None)
        skipped.append(int(metrics["skipped"]))
    return state, skipped


@pytest.mark.parametrize("parts", [1, pytest.param(2, marks=pytest.mark.long)])
def test_all_devices_skip_the_same_updates(parts: int, x64: None) -> None:
    """Equal to one device, which is equal to a run to which the two steps only count; and on every device alike."""
    expected, none_skipped = trained(make_layout(**LAYOUTS["one"]), parts, (NAN, KINK))
    assert none_skipped == [0] * (STEPS - 2) and np.abs(expected.params["w"] - START["w"]).min() > 1e-3
    assert np.isfinite(expected.averages[EVAL_PARAMS]["w"]).all()
    for name, options in LAYOUTS.items():
        layout = make_layout(**options)
        state, skipped = trained(layout, parts)
        assert skipped == [int(step in (NAN, KINK)) for step in range(STEPS)], name
        cut = 0
        for (keys, leaf), right in zip(
            jax.tree_util.tree_leaves_with_path(state), jax.tree.leaves(expected), strict=True
        ):
            where = f"{name} {jax.tree_util.keystr(keys)}"
            np.testing.assert_allclose(layout.gather(leaf), right, rtol=1e-10, atol=1e-12, err_msg=where)
            shards = [np.asarray(shard.data) for shard in leaf.addressable_shards]
            cut += shards[0].shape != leaf.shape
            for shard in leaf.addressable_shards:  # of what each device holds, not of what the first one says
                np.testing.assert_array_equal(shard.data, np.asarray(leaf)[shard.index], err_msg=where)
            assert len(shards) == layout.size
        assert bool(cut) == (name == "fsdp")
