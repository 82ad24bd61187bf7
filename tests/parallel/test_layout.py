"""Where leaves and rows lie; a step by device against one program; and values that do not fit."""

from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec

from tlx.errors import TlxError
from tlx.methods.api import Carried, Context, Update
from tlx.models.layers import keep_mask
from tlx.parallel.axis import DEVICES
from tlx.parallel.layout import make_layout
from tlx.parallel.placement import LEAST
from tlx.parallel.processes import on_main, start
from tlx.training.state import init_state
from tlx.training.step import make_train_step

PARAMS = {
    "wide": {"kernel": jnp.zeros((64, 2048)), "bias": jnp.zeros(2048)},
    "tall": {"kernel": jnp.zeros((2048, 64))},
    "odd": {"kernel": jnp.zeros((333, 333))},
}


def test_large_leaves_are_cut_along_their_largest_axis_and_moments_lie_with_them() -> None:
    layout = make_layout(fsdp=4).with_params(PARAMS)
    assert (layout.size, layout.fsdp_size) == (8, 4) and PARAMS["wide"]["kernel"].size >= LEAST
    state = layout.put(init_state(PARAMS, dict.fromkeys(layout.axes, "model"), {"model": optax.adam(1.0)}, {}))
    expected = {
        "wide/kernel": PartitionSpec(None, "fsdp"), "wide/bias": PartitionSpec(), "tall/kernel": PartitionSpec("fsdp"),
        "odd/kernel": PartitionSpec(),
    }  # fmt: skip
    found = jax.tree_util.tree_leaves_with_path(state)
    # Parameters, two moments of each, Adam's count, the step, the number of skipped steps.
    assert len(found) == 3 * len(expected) + 3
    for keys, leaf in found:
        path = "/".join(str(getattr(key, "key", "")) for key in keys[-2:])
        assert leaf.sharding.spec == expected.get(path, PartitionSpec()), keys
    held = sum(shard.data.nbytes for leaf in jax.tree.leaves(state) for shard in leaf.addressable_shards[:1])
    assert held == 3 * 4 * (2 * 64 * 2048 // 4 + 2048 + 333 * 333) + 12


def test_what_is_factored_is_whole() -> None:
    """Adafactor keeps a row and a column under the path of a kernel."""
    layout = make_layout(fsdp=4).with_params(PARAMS)
    moments = jax.eval_shape(optax.scale_by_factored_rms(min_dim_size_to_factor=8).init, PARAMS)
    for leaf, sharding in zip(jax.tree.leaves(moments), jax.tree.leaves(layout.shardings(moments)), strict=True):
        assert sharding.is_fully_replicated == (leaf.shape not in ((64, 2048), (2048, 64)))


def test_rules_decide_what_is_cut() -> None:
    rules = (("wide/kernel", 0), ("tall/.*", "whole"), ("kind:bias", "largest"))
    axes = make_layout(fsdp=8, rules=rules).with_params(PARAMS).axes
    assert {path: axis for path, (_, axis) in axes.items()} == {
        "wide/kernel": 0, "wide/bias": 0, "tall/kernel": None, "odd/kernel": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ((("odd/kernel", 0),), r"odd/kernel has shape \(333, 333\), whose axis 0 cannot be split into 4 equal parts"),
        ((("wide/bias", 1),), r"wide/bias has shape \(2048,\), whose axis 1 cannot be split"),
        (((".*", "long"),), "a value must be 'large', 'largest', 'whole' or an axis; found 'long'"),
        ((("narrow/.*", "whole"),), "parallel.rules: the rule 'narrow/.*' matches no parameter"),
    ],
)
def test_bad_rules(rules: Any, message: str) -> None:
    with pytest.raises(TlxError, match=message):
        make_layout(fsdp=4, rules=rules).with_params(PARAMS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": 99}, r"parallel.data is 99; there are 8 devices \(-1 uses all\)"),
        ({"data": 0}, "parallel.data is 0; there are 8 devices"),
        ({"data": 4, "fsdp": 4}, "parallel.data is 4 times parallel.fsdp 4; there are 8 devices"),
        ({"fsdp": 3}, "parallel.fsdp is 3; it must divide the 8 devices"),
        ({"fsdp": 0}, "parallel.fsdp is 0; it must divide the 8 devices"),
        ({"mode": "mesh"}, "parallel.mode is 'mesh'; it must be one of auto, jit, pmap"),
        ({"mode": "pmap", "fsdp": 2}, "parallel.mode is 'pmap', which cannot shard parameters, and parallel.fsdp is 2"),
    ],
)
def test_bad_layouts(options: Any, message: str) -> None:
    with pytest.raises(TlxError, match=message):
        make_layout(**options)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("", 2, 0), "parallel.num_processes and parallel.process_id set without parallel.coordinator"),
        (("localhost", 2, 0), "parallel.coordinator is 'localhost'; it must be HOST:PORT of process 0, or 'auto'"),
        (("localhost:9", None, 0), "parallel.process_id is 0 and parallel.num_processes None"),
        (("localhost:9", 2, 2), "parallel.process_id is 2 and parallel.num_processes 2"),
        (("auto", None, None), "parallel.coordinator is 'auto', but JAX cannot find the other processes"),
    ],
)
def test_bad_processes(given: Any, message: str) -> None:
    with pytest.raises(TlxError, match=message):
        start(*given)


def test_one_process_is_the_main_one() -> None:
    layout = make_layout(fsdp=2)
    assert layout.is_main and on_main(lambda: 7) == 7 and layout.rows(16).tolist() == list(range(16))
    values = {"x": np.arange(16.0), "n": np.float32(3)}
    cut = layout.put_batch({"x": values["x"]})
    assert {shard.data.shape for shard in cut["x"].addressable_shards} == {(2,)}
    assert np.array_equal(layout.gather(cut)["x"], values["x"]) and layout.gather(layout.put(values))["n"] == 3


@pytest.mark.parametrize("shape", [(16, 6), (16, 3, 5), (16, 1, 1)])
def test_masks_by_device_are_the_parts_of_the_whole_mask(shape: tuple[int, ...]) -> None:
    key = jax.random.key(4)
    whole, _ = keep_mask(key, 0.5, shape)
    parts = jax.pmap(lambda _: keep_mask(key, 0.5, (2, *shape[1:]))[0], DEVICES)(jnp.zeros(8))
    assert np.array_equal(parts.reshape(shape), whole) and 0 < np.asarray(whole).mean() < 1


def linear(params: Any, batch: Any, carried: Carried, context: Context) -> Any:
    """Two losses on rows of unequal weight; the second one's count depends on the parameters, as a learnt weight's."""
    rows = batch["train"]
    apart = rows["x"] @ params["w"] - rows["y"]
    share = jax.nn.sigmoid(rows["x"] @ params["v"])
    return {
        "square": ((rows["valid"] * apart**2).sum(), rows["valid"].sum()),
        "weighed": ((share * jnp.abs(apart)).sum(), share.sum()),
    }, carried


def projected(gradients: Any, losses: Any, counts: Any, method_state: Any) -> tuple[Any, Any]:
    """A combination that is not linear: one gradient without its part along the other (PCGrad)."""
    one, two = gradients["square"], gradients["weighed"]
    along = optax.tree.vdot(one, two) / optax.tree.vdot(two, two)
    return jax.tree.map(lambda a, b: losses["square"] * (a - along * b) + b, one, two), method_state


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize(
    "update",
    [
        Update(linear, ("model",)),
        Update(linear, ("model",), differentiable_counts=("weighed",)),
        Update(linear, ("model",), combine=projected),
        Update(linear, ("model",), combine=projected, differentiable_counts=("weighed",), needs={"model": ("square",)}),
    ],
    ids=["summed", "counts", "combined", "combined counts"],
)
def test_a_step_by_device_is_the_step_of_the_whole_batch(update: Update, accumulate: int, x64: None) -> None:
    """Devices hold unequal counts, some of them none: a mean of means would differ."""
    random = np.random.default_rng(0)
    rows = {"x": random.normal(size=(32, 5)), "y": random.normal(size=32), "valid": (np.arange(32) < 9).astype(float)}
    params = {"w": random.normal(size=5), "v": random.normal(size=5)}
    method: Any = SimpleNamespace(updates=(update,))
    owner, optimizers = dict.fromkeys(params, "model"), {"model": optax.sgd(1.0)}
    step = make_train_step(method, optimizers, owner, accumulate=accumulate)
    found = {}
    for mode, devices in (("jit", 1), ("pmap", 8)):
        layout = make_layout(devices, mode=mode)
        state, key = layout.put(
            (init_state(jax.tree.map(jnp.asarray, params), owner, optimizers, {}), jax.random.key(0))
        )
        compiled = layout.train_step(step, state, (key, None))
        found[mode] = layout.gather(compiled(state, layout.put_batch({"train": rows}), key, None))
    for a, b in zip(*map(jax.tree.leaves, (found["jit"], found["pmap"])), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    assert all(np.abs(found["jit"][0].params[name] - params[name]).min() > 1e-6 for name in params)
