"""`parallel.mode=pmap`: what a step takes from the whole batch is the same where each device has its own rows.

Statistics of batch norm, the state of a method, and the partners of mixup and CutMix, on eight devices under pmap
against one program on one device.
"""

import dataclasses
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from tlx.augment.mixing import mix_images, mix_labels, mix_targets
from tlx.errors import TlxError
from tlx.methods.api import Carried, Context, Update
from tlx.models.cnn import ConvNet
from tlx.models.forward import forward, init_model_state
from tlx.parallel.axis import gathered
from tlx.parallel.layout import make_layout
from tlx.params.paths import flatten
from tlx.training.state import State, init_state
from tlx.training.step import make_train_step

ROWS = 32
random = np.random.default_rng(0)
IMAGES = random.standard_normal((ROWS, 8, 8, 1))
VALID = np.arange(ROWS) < 9  # eight devices have 4, 4, 1, 0, … of them


class Norms(nn.Module):
    """Norms in flax's forms (variance in two passes, without scale, over two feature axes), and dropout before each."""

    @nn.compact
    def __call__(self, x: jax.Array, valid: Any = None, deterministic: bool = True, frozen: Any = ()) -> jax.Array:
        mask = None if valid is None else valid[:, None, None, None]
        kinds: Any = {
            "two_passes": {"use_fast_variance": False}, "bare": {"use_scale": False, "use_bias": False},
            "axes": {"axis": (1, -1), "momentum": 0.8}, "plain": {},
        }  # fmt: skip
        for name, options in kinds.items():
            x = nn.Dropout(0.3)(x, deterministic=deterministic)
            x = jnp.sin(nn.BatchNorm(**options, param_dtype=x.dtype, name=name)(x, deterministic, mask=mask)) + 0.1 * x
        return x.sum(axis=(1, 2))


def losses_of(module: nn.Module, field: str) -> Any:
    def losses(params: Any, batch: Any, carried: Carried, context: Context) -> Any:
        rows = batch["train"]
        output, state = forward(module, params, carried.model, {field: rows["x"], "valid": rows["valid"]}, context)
        total = (rows["valid"] * ((output - 1) ** 2).sum(axis=1)).sum()
        return {"size": (total, rows["valid"].sum())}, dataclasses.replace(carried, model=state)

    return losses


def after_steps(mode: str, update: Update, params: Any, state: State | None = None, **options: Any) -> Any:
    """State and metrics after three steps, on one device under jit or on eight under pmap."""
    owner, optimizers = dict.fromkeys(flatten(params), "model"), {"model": optax.sgd(1e-3)}
    method: Any = SimpleNamespace(updates=(update,))
    step_options = {name: options.pop(name) for name in ("accumulate", "frozen") if name in options}
    step = make_train_step(method, optimizers, owner, **step_options)
    layout = make_layout(8 if mode == "pmap" else 1, mode=mode)
    begun = init_state(params, owner, optimizers, **{"method_state": {}, **options})
    state, key = layout.put(jax.tree.map(jnp.copy, (begun, jax.random.key(0))))
    compiled = layout.train_step(step, state, (key, None))
    for _ in range(3):
        state, metrics = compiled(state, layout.put_batch({"train": {"x": IMAGES, "valid": VALID}}), key, None)
    return layout.gather((state, metrics))


def assert_equal(found: Any, expected: Any) -> None:
    for (keys, a), b in zip(jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12, err_msg=jax.tree_util.keystr(keys))


@pytest.mark.parametrize("accumulate", [1, pytest.param(2, marks=pytest.mark.long)])
@pytest.mark.parametrize("module", [ConvNet((3, 4), 5), Norms()], ids=["convolutions", "norms"])
def test_layers_see_the_whole_batch(module: nn.Module, accumulate: int, x64: None) -> None:
    """Batch norm and dropout, also where a device has padding alone; with a frozen norm; and the gradients."""
    variables = dict(module.init(jax.random.key(0), IMAGES))
    variables = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), variables)
    params = variables.pop("params")
    update = Update(losses_of(module, "x" if isinstance(module, Norms) else "pixel_values"), ("model",))
    frozen = ("block_1",) if isinstance(module, ConvNet) else ()
    found, expected = (
        after_steps(mode, update, params, model_state=variables, accumulate=accumulate, frozen=frozen)
        for mode in ("pmap", "jit")
    )
    assert_equal(found, expected)
    for path, leaf in flatten(expected[0].model_state).items():
        assert np.allclose(leaf, flatten(variables)[path]) == ("block_1" in path), path


class RunningMean(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array, deterministic: bool = True, frozen: Any = ()) -> jax.Array:
        mean = self.variable("running", "mean", jnp.zeros, x.shape[-1:])
        if not deterministic:
            mean.value = 0.9 * mean.value + 0.1 * x.mean(axis=(0, 1, 2))
        return (x - mean.value).sum(axis=(1, 2)) * self.param("scale", nn.initializers.ones, ())


def test_a_state_that_is_not_batch_norms_is_refused() -> None:
    def losses(params: Any, batch: Any, carried: Carried, context: Context) -> Any:
        output, state = forward(RunningMean(), params, carried.model, {"x": batch["train"]["x"]}, context)
        return {"size": (output.sum(), jnp.ones(()))}, dataclasses.replace(carried, model=state)

    params, state = {"scale": jnp.ones(())}, init_model_state(RunningMean(), {"x": IMAGES})
    with pytest.raises(TlxError, match=r"parallel.mode is 'pmap', .* updates running/mean, which is not the state of"):
        after_steps("pmap", Update(losses, ("model",)), params, model_state=state)


def linear(params: Any, batch: Any, carried: Carried, context: Context) -> Any:
    rows = batch["train"]
    apart = carried.method["shift"] + rows["x"][:, 0, :, 0] @ params["w"]
    return {
        "square": ((rows["valid"] * apart**2).sum(), rows["valid"].sum()),
        "size": ((rows["valid"] * jnp.abs(apart)).sum(), rows["valid"].sum()),
    }, carried


def weighed(gradients: Any, losses: Any, counts: Any, method_state: Any) -> Any:
    """A combination that keeps a running mean of the losses."""
    shift = 0.9 * method_state["shift"] + 0.1 * losses["square"]
    return jax.tree.map(lambda a, b: a + shift * b, gradients["square"], gradients["size"]), {"shift": shift}


def test_a_methods_state_goes_on_equally_on_all_devices(x64: None) -> None:
    params, method_state = {"w": random.normal(size=8)}, {"shift": jnp.asarray(0.3)}
    update = Update(linear, ("model",), combine=weighed)
    found, expected = (after_steps(mode, update, params, method_state=method_state) for mode in ("pmap", "jit"))
    assert_equal(found, expected)
    assert abs(expected[0].method_state["shift"] - 0.3) > 0.01


def test_a_methods_state_from_the_rows_of_one_device_is_refused() -> None:
    def counting(params: Any, batch: Any, carried: Carried, context: Context) -> Any:
        losses, _ = linear(params, batch, carried, context)
        seen = carried.method["shift"] + batch["train"]["valid"].sum()
        return losses, dataclasses.replace(carried, method={"shift": seen})

    given: Any = {"params": {"w": random.normal(size=8)}, "method_state": {"shift": jnp.zeros(())}}
    with pytest.raises(
        TlxError, match=r"parallel.mode is 'pmap', .* the losses of this method change its method_state"
    ):
        after_steps("pmap", Update(counting, ("model",)), **given)
    assert after_steps("jit", Update(counting, ("model",)), **given)[0].method_state["shift"] == 3 * VALID.sum()


@pytest.mark.parametrize("options", [{"mixup": 0.8}, {"mixup": 0.8, "cutmix": 1.0, "per": "example"}])
def test_partners_come_from_the_whole_batch(options: Any) -> None:
    images = random.uniform(size=(ROWS, 8, 8, 3)).astype(np.float32)
    labels, targets = np.arange(ROWS) % 4, random.normal(size=(ROWS, 2)).astype(np.float32)
    ids = np.arange(ROWS, dtype=np.int32) * 7

    def mixed(state: State, batch: Any, key: Any) -> Any:
        rows = batch["train"]
        images, mix = mix_images(key, rows["x"], rows["id"], rows["valid"], **options)
        parts = images, mix_labels(rows["label"], mix.partner, mix.lam, 4), mix_targets(rows["y"], mix.partner, mix.lam)
        return state, gathered({"parts": parts, "partner": mix.partner})

    found = {}
    for mode in ("jit", "pmap"):
        layout = make_layout(8 if mode == "pmap" else 1, mode=mode)
        state, key = layout.put((State(jnp.zeros((), jnp.int32), {}, {}, {}), jax.random.key(3)))
        batch = {"train": {"x": images, "id": ids, "valid": VALID, "label": labels, "y": targets}}
        found[mode] = layout.gather(layout.train_step(mixed, state, (key,))(state, layout.put_batch(batch), key)[1])
    partner = found["jit"]["partner"]
    assert np.array_equal(found["pmap"]["partner"], partner)
    assert sorted(partner[:9]) == list(range(9)) and (partner[:9] // 4 != np.arange(9) // 4).any()  # other devices'
    for a, b in zip(found["pmap"]["parts"], found["jit"]["parts"], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)
