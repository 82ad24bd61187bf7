"""Batch normalization in the step, in own modules, features and files: running statistics against NumPy, and those of a
frozen part that stay."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from tlx.errors import TlxError
from tlx.features.compute import Extractor
from tlx.features.spec import FeatureSpec
from tlx.methods.api import Update
from tlx.models.backbone import Backbone, BackboneOutput
from tlx.models.cnn import EPSILON, MOMENTUM, ConvNet
from tlx.models.custom import Custom, CustomConfig
from tlx.models.forward import Context, forward, init_model_state
from tlx.models.model import Model
from tlx.params.paths import flatten
from tlx.recipes.frozen import frozen_parts
from tlx.runs import interpolate
from tlx.training.state import init_state
from tlx.training.step import make_train_step

ROWS, WIDTH = 8, 3
random = np.random.default_rng(1)
X, Y = random.standard_normal((ROWS, WIDTH)), random.standard_normal(ROWS)
VALID = np.array([1, 1, 0, 1, 1, 1, 1, 0], bool)
BATCH = {"train": {"x": X, "y": Y, "valid": VALID}}
RATE = 0.1


class TwoNorms(nn.Module):
    """norm_1(norm_0(x) · w), so that each gradient is a few lines of NumPy."""

    @nn.compact
    def __call__(self, x: Any, valid: Any, deterministic: bool = True, frozen: Any = ()) -> Any:
        for index in range(2):
            name = f"norm_{index}"
            use = deterministic or name in frozen
            norm = nn.BatchNorm(use, momentum=MOMENTUM, epsilon=EPSILON, param_dtype=x.dtype, dtype=x.dtype, name=name)
            x = norm(x, mask=valid[:, None])
        return x.sum(axis=1)


def losses(params: Any, batch: Any, carried: Any, context: Any) -> Any:
    rows = batch["train"]
    output, state = forward(TwoNorms(), params, carried.model, {"x": rows["x"], "valid": rows["valid"]}, context)
    error = rows["valid"] * (output - rows["y"])
    return {"squares": ((error**2).sum(), rows["valid"].sum())}, dataclasses.replace(carried, model=state)


def normalized(x: np.ndarray, scale: np.ndarray, bias: np.ndarray, mean: np.ndarray, var: np.ndarray) -> np.ndarray:
    return (x - mean) / np.sqrt(var + EPSILON) * scale + bias


def by_hand(steps: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Plain gradient descent on the upper norm by its chain rule; the lower is frozen and uses its running values."""
    low = {"mean": np.full(WIDTH, 0.3), "var": np.full(WIDTH, 1.7)}
    high = {"mean": np.zeros(WIDTH), "var": np.ones(WIDTH)}
    scale, bias = np.ones(WIDTH), np.zeros(WIDTH)
    for _ in range(steps):
        h = normalized(X, np.ones(WIDTH), np.zeros(WIDTH), **low)
        mean, var = h[VALID].mean(0), h[VALID].var(0)
        unit = (h - mean) / np.sqrt(var + EPSILON)
        error = VALID * ((unit * scale + bias).sum(1) - Y)
        high = {"mean": 0.9 * high["mean"] + 0.1 * mean, "var": 0.9 * high["var"] + 0.1 * var}
        scale = scale - RATE * (2 * error[:, None] * unit).sum(0) / VALID.sum()
        bias = bias - RATE * np.full(WIDTH, 2 * error.sum() / VALID.sum())
    return {"scale": scale, "bias": bias}, high


def test_statistics_move_and_those_of_a_frozen_part_stay(x64: None) -> None:
    variables: Any = TwoNorms().init(jax.random.key(0), X, VALID)
    variables = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), variables)
    variables["batch_stats"]["norm_0"] = {"mean": jnp.full(WIDTH, 0.3), "var": jnp.full(WIDTH, 1.7)}
    player_of = {path: "model" if path.startswith("norm_1") else None for path in flatten(variables["params"])}
    optimizers = {"model": optax.sgd(RATE)}
    model_state = {"batch_stats": variables["batch_stats"]}
    method: Any = SimpleNamespace(updates=(Update(losses, ("model",)),))
    step = jax.jit(make_train_step(method, optimizers, player_of, frozen=("norm_0",)))
    state = init_state(variables["params"], player_of, optimizers, {}, model_state=model_state)
    for _ in range(4):
        state, _ = step(state, BATCH, jax.random.key(0))
    params, high = by_hand(4)
    for name, value in params.items():
        np.testing.assert_allclose(state.params["norm_1"][name], value, rtol=1e-9)
    stats = state.model_state["batch_stats"]
    for name, value in high.items():
        np.testing.assert_allclose(stats["norm_1"][name], value, rtol=1e-9)
    before = jax.device_get(model_state["batch_stats"]["norm_0"])
    for name, value in before.items():
        assert np.asarray(stats["norm_0"][name]).tobytes() == value.tobytes(), name


def test_evaluation_reads_the_statistics_and_changes_none() -> None:
    network, images = ConvNet((4, 6), 5), jnp.asarray(random.standard_normal((4, 8, 8, 1)), jnp.float32)
    params = network.init(jax.random.key(0), images)["params"]
    first = init_model_state(network, {"pixel_values": images})
    assert set(flatten(first)) == {f"batch_stats/block_{i}/norm/{name}" for i in range(2) for name in ("mean", "var")}
    _, state = network.apply({"params": params, **first}, images, deterministic=False, mutable=["batch_stats"])
    output, after = forward(network, params, state, {"pixel_values": images})
    assert after is state and output.shape == (4, 5)
    alone, _ = forward(network, params, state, {"pixel_values": images[:1]})
    np.testing.assert_allclose(output[:1], alone, rtol=1e-5, atol=1e-6)  # no row depends on the others
    assert not np.allclose(output, forward(network, params, first, {"pixel_values": images})[0])


@pytest.mark.parametrize("frozen", [(), ("block_0",)])
def test_rows_of_padding_enter_no_statistics(frozen: tuple[str, ...]) -> None:
    network, images = ConvNet((4, 6), 5), random.standard_normal((6, 8, 8, 1)).astype(np.float32)
    valid = np.array([1, 1, 1, 1, 0, 0], bool)
    variables = network.init(jax.random.key(0), images)

    def statistics(images: np.ndarray, valid: np.ndarray | None) -> Any:
        _, state = network.apply(
            variables, images, deterministic=False, frozen=frozen, valid=valid, mutable=["batch_stats"]
        )
        return flatten(state["batch_stats"])

    padded, alone = statistics(images, valid), statistics(images[:4], None)
    before = flatten(variables["batch_stats"])
    for path, leaf in padded.items():
        np.testing.assert_allclose(leaf, alone[path], rtol=1e-5, atol=1e-6, err_msg=path)
        assert np.array_equal(leaf, before[path]) == path.startswith(frozen or "-"), path


@pytest.mark.parametrize("accumulate", [1, 4])
def test_a_batch_of_padding_alone_changes_nothing(accumulate: int) -> None:
    """The last micro-batches of an epoch may hold no example: neither a NaN nor a statistic comes of them."""
    network = ConvNet((3, 4), 5)
    images, valid = random.standard_normal((4, 8, 8, 1)).astype(np.float32), np.array([1, 0, 0, 0], bool)
    params = network.init(jax.random.key(0), images)["params"]
    first = init_model_state(network, {"pixel_values": images})

    def losses(params: Any, batch: Any, carried: Any, context: Any) -> Any:
        rows = batch["train"]
        given = {"pixel_values": rows["images"], "valid": rows["valid"]}
        output, state = forward(network, params, carried.model, given, context)
        total = (rows["valid"] * (output**2).sum(axis=1)).sum()
        return {"size": (total, rows["valid"].sum())}, dataclasses.replace(carried, model=state)

    player_of, optimizers = dict.fromkeys(flatten(params), "model"), {"model": optax.sgd(RATE)}
    method: Any = SimpleNamespace(updates=(Update(losses, ("model",)),))
    step = jax.jit(make_train_step(method, optimizers, player_of, accumulate=accumulate))
    state = init_state(params, player_of, optimizers, {}, model_state=first)
    state, _ = step(state, {"train": {"images": images, "valid": valid}}, jax.random.key(0))
    _, alone = network.apply({"params": params, **first}, images[:1], deterministic=False, mutable=["batch_stats"])
    for path, leaf in flatten(state.model_state).items():
        np.testing.assert_allclose(leaf, flatten(alone)[path], rtol=1e-5, atol=1e-6, err_msg=path)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))


class Plain(nn.Module):
    """Norms as flax code has them: told when they are made, or when they are called; one of them without parameters."""

    @nn.compact
    def __call__(self, x: jax.Array, deterministic: bool) -> jax.Array:
        x = nn.BatchNorm(use_running_average=deterministic, name="made")(nn.Dense(4, name="low")(x))
        x = nn.BatchNorm(use_scale=False, use_bias=False, name="bare")(x, use_running_average=deterministic)
        return nn.BatchNorm(name="called")(nn.Dense(4, name="high")(x), use_running_average=deterministic)


def own(module: nn.Module, x: Any) -> tuple[Model, Any, Any]:
    """A model without heads, its parameters, and statistics that are not those it begins with."""
    model = Model(Custom(CustomConfig((), (("x", x.shape, "float32"),)), None, module))
    params = model.init(jax.random.key(1), x=x)["params"]
    state = jax.tree.map(lambda leaf: leaf + 0.5, init_model_state(model, {"x": x}))
    return model, params, state


def test_a_frozen_norm_of_any_module_runs_as_in_evaluation() -> None:
    """Without the module's help; against the same layers called one by one."""
    x = jnp.asarray(random.standard_normal((6, 3)), jnp.float32)
    model, params, state = own(Plain(), x)
    frozen = ("backbone/made", "backbone/bare")
    output, after = forward(model, params, state, {"x": x}, Context(jax.random.key(0), frozen=frozen))
    stats, weights = state["batch_stats"]["backbone"], params["backbone"]

    def unit(x: Any, of: Any) -> Any:
        return (x - of["mean"]) / np.sqrt(of["var"] + 1e-5)

    h = np.asarray(x, np.float64) @ weights["low"]["kernel"]
    h = unit(unit(h, stats["made"]), stats["bare"]) @ weights["high"]["kernel"]
    batch = {"mean": h.mean(0), "var": h.var(0)}
    np.testing.assert_allclose(output.last_hidden_state[:, 0], unit(h, batch), rtol=1e-4, atol=1e-5)
    for path, leaf in flatten(after).items():
        before, (*_, norm, name) = flatten(state)[path], path.split("/")
        if norm == "called":
            np.testing.assert_allclose(leaf, 0.99 * before + 0.01 * batch[name], rtol=1e-4, err_msg=path)
        else:
            assert np.asarray(leaf).tobytes() == np.asarray(before).tobytes(), path


class RunningMean(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array, deterministic: bool) -> jax.Array:
        mean = self.variable("running", "mean", jnp.zeros, x.shape[-1:])
        if not deterministic:
            mean.value = 0.9 * mean.value + 0.1 * x.mean(axis=0)
        return x - mean.value


class TwoMeans(nn.Module):
    """Statistics that are no `BatchNorm`'s, and move whatever is frozen."""

    @nn.compact
    def __call__(self, x: jax.Array, deterministic: bool = True, frozen: Any = ()) -> jax.Array:
        return RunningMean(name="high")(RunningMean(name="low")(x, deterministic) ** 2, deterministic)


def test_any_state_of_a_frozen_part_stays() -> None:
    x = jnp.asarray(random.standard_normal((6, 3)), jnp.float32)
    before = {"running": {name: {"mean": jnp.full(3, 0.5)} for name in ("low", "high")}}
    _, after = forward(TwoMeans(), {}, before, {"x": x}, Context(jax.random.key(0), frozen=("low",)))
    assert np.asarray(after["running"]["low"]["mean"]).tobytes() == np.full(3, 0.5, np.float32).tobytes()
    low = 0.9 * 0.5 + 0.1 * np.mean(x, axis=0)
    expected = 0.9 * 0.5 + 0.1 * np.mean((np.asarray(x) - low) ** 2, axis=0)
    np.testing.assert_allclose(after["running"]["high"]["mean"], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("learning", "norms"),
    [
        ((), {"made", "bare", "called"}),
        (("low",), {"made", "called"}),  # of a norm without parameters the part around it decides
        (("made/bias",), {"called"}),
        (("low", "made", "high", "called"), set()),
    ],
)
def test_norms_in_which_nothing_learns_are_frozen(learning: tuple[str, ...], norms: set[str]) -> None:
    x = jnp.ones((2, 3))
    model, params, state = own(Plain(), x)
    groups = {
        path: "default" if path.startswith(tuple(f"backbone/{part}" for part in learning)) else "frozen"
        for path in flatten(params)
    }
    found = set(frozen_parts(model, groups, state)) - {"backbone/embeddings"}
    assert found == {f"backbone/{norm}" for norm in norms - ({"bare"} if learning else set())}


class Block(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array, deterministic: bool) -> jax.Array:
        return nn.BatchNorm(name="norm")(nn.Dense(3, name="dense")(x), use_running_average=deterministic)


class Stacked(Backbone):
    """A family that has norms and nothing before its blocks."""

    def setup(self) -> None:
        self.blocks = [Block(name=path) for path in ("block_0", "block_1")]

    def block(self, index: int, x: jax.Array, mask: Any, deterministic: bool) -> tuple[jax.Array, jax.Array]:
        return self.blocks[index](x, deterministic), x

    def __call__(self, pixel_values: Any, stop: Any = None, start: int = 0, **options: Any) -> BackboneOutput:
        options = {"deterministic": True, "frozen": (), "output_hidden_states": False, **options}
        return self.run(pixel_values, None, start, stop, output_attentions=False, **options)

    @staticmethod
    def dummy_inputs(config: Any) -> dict[str, Any]:
        return {"pixel_values": jnp.zeros((1, 2, 3))}

    def pooling_mask(self, features: BackboneOutput, inputs: Any) -> None:
        return None


class Images:
    """What an extractor asks of a set."""

    example_id = np.arange(5)
    lengths = np.ones(5, np.int64)
    pixels = random.standard_normal((5, 2, 3)).astype(np.float32)

    def __len__(self) -> int:
        return 5

    def take(self, rows: np.ndarray, length: int) -> dict[str, np.ndarray]:
        return {"pixel_values": self.pixels[np.maximum(rows, 0)], "valid": rows >= 0}


def test_features_through_frozen_norms_are_those_of_training() -> None:
    """Read once, in batches of another size, against a training step's pass in which the block is frozen."""
    model = Model(Stacked(CustomConfig(("block_0", "block_1"))))
    params = model.init(jax.random.key(0), pixel_values=Images.pixels)["params"]
    state = jax.tree.map(lambda leaf: leaf + 0.5, init_model_state(model, {"pixel_values": Images.pixels}))
    prepare = lambda rows, key: ({"pixel_values": rows["pixel_values"]}, rows)  # noqa: E731
    modality: Any = SimpleNamespace(prepare=prepare, fields=("pixel_values",), length_buckets=(1,), has_lengths=False)
    images: Any = Images()
    extractor = Extractor(model, params, modality, FeatureSpec((1,), None), batch_size=2, model_state=state)
    found = extractor(images).values.reshape(5, 2, 3)
    context = Context(jax.random.key(0), frozen=("backbone/block_0",))
    given = {"pixel_values": Images.pixels, "output_hidden_states": True}
    output, after = forward(model, params, state, given, context)
    np.testing.assert_allclose(found, output.hidden_states[1], rtol=1e-5, atol=1e-6)
    moved = {path for path, leaf in flatten(after).items() if not np.array_equal(leaf, flatten(state)[path])}
    assert moved == {f"batch_stats/backbone/block_1/norm/{name}" for name in ("mean", "var")}
    other = jax.tree.map(lambda leaf: leaf + 1, state)
    again = Extractor(model, params, modality, FeatureSpec((1,), None), batch_size=2, model_state=other)
    assert again.weights != extractor.weights  # another set on disk


def test_between_two_models_no_statistics_are_made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = SimpleNamespace(model_state={"batch_stats": {"norm": {"mean": jnp.zeros(3)}}})
    monkeypatch.setattr(interpolate, "load_run", lambda run, step: trained)
    with pytest.raises(TlxError, match=r"has batch_stats, which are valid for its own parameters only"):
        interpolate.interpolate_run(Path("run"), (0.0, 1.0))
