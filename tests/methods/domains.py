"""A small classifier for the tests of domain adaptation: a dense backbone, a linear head, two streams of rows."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from tlx.methods.api import Method
from tlx.models.custom import Custom, CustomConfig
from tlx.models.forward import init_model_state
from tlx.models.heads import Head
from tlx.models.model import Model
from tlx.params.paths import flatten
from tlx.training.state import State, assign_players, init_state
from tlx.training.step import make_train_step

KEY = jax.random.key(11)
WIDTH, HIDDEN, CLASSES, ROWS = 3, 4, 3, 6


class Dense(nn.Module):
    """tanh(x W + b), with batch norm before it if asked for."""

    hidden: int = HIDDEN
    depth: int = 1
    norm: bool = False

    @nn.compact
    def __call__(self, x: Any, deterministic: bool = True, valid: Any = None) -> Any:
        for index in range(self.depth):
            x = nn.Dense(self.hidden, name=f"dense_{index}")(x)
            if self.norm:
                mask = None if valid is None else valid[:, None]
                x = nn.BatchNorm(deterministic, momentum=0.9, epsilon=1e-5, name=f"norm_{index}")(x, mask=mask)
            x = jnp.tanh(x)
        return x


def model_of(module: Any = None, width: int = WIDTH, classes: int = CLASSES) -> Model:
    config = CustomConfig((), (("x", (1, width), "float32"),))
    backbone = Custom(config, None, module or Dense())
    return Model(backbone, (("default", Head("classification", classes, pooling="cls")),), config.head_settings)


def prepare(rows: Any, key: Any) -> Any:
    return {"x": rows["x"]}, rows


def batch_of(seed: int = 0) -> dict[str, Any]:
    """A source and a target, each with a row of padding; the target has no labels."""
    random = np.random.default_rng(seed)
    source, target = random.normal(size=(ROWS, WIDTH)), random.normal(size=(ROWS, WIDTH)) + 0.8
    valid = np.array([1, 1, 1, 1, 1, 0], bool)
    source[5], target[0] = 40.0, -40.0
    return {
        "train": {"x": source, "label": random.integers(0, CLASSES, ROWS), "valid": valid},
        "target": {"x": target, "valid": valid[::-1].copy()},
    }


def started(method: Method, model: Model, optimizers: Any, seed: int = 0, scale: float = 0.7) -> tuple[State, Any]:
    """The state before the first step, in the default precision, and the player of each path.

    All kernels and biases are normal numbers of this standard deviation; 0: as the modules initialize them.
    """
    inputs = {name: jnp.zeros(shape, dtype) for name, shape, dtype in model.backbone.config.sample}
    params = model.init(jax.random.key(seed), **inputs)["params"]
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), params)
    aux, method_state = method.init(jax.random.key(seed + 1), shapes)
    params = {**params, "aux": aux} if aux else params
    random = np.random.default_rng(seed)
    if scale:
        params = jax.tree.map(lambda leaf: jnp.asarray(scale * random.normal(size=leaf.shape)), params)
    player_of = assign_players(params, dict.fromkeys(flatten(params), "default"), method.players)
    state = init_model_state(model, inputs)
    if scale:
        state = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.zeros(()).dtype), state)
    return init_state(params, player_of, optimizers, method_state, model_state=state), player_of


def stepped(method: Method, state: State, player_of: Any, batch: Any, rate: float = 0.1, **options: Any) -> Any:
    """One step of gradient descent: (state, metrics)."""
    optimizers = dict.fromkeys(method.players, optax.sgd(rate))
    step = jax.jit(make_train_step(method, optimizers, player_of, total_steps=4, **options))
    return step(state, batch, KEY)


def after(state: State, step: int) -> State:
    """The state as if this many steps were done."""
    return dataclasses.replace(state, step=jnp.asarray(step, jnp.int32))
