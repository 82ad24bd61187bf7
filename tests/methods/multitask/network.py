"""Several heads on a small dense network: data, the training step, and a step of gradient descent by hand."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from tests.methods.domains import KEY, WIDTH, Dense, prepare, started
from tlx.methods import multitask
from tlx.methods.multitask import balance
from tlx.methods.multitask.method import MultiTask, TaskLabels, UncertaintyWeighted
from tlx.models.custom import Custom, CustomConfig
from tlx.models.heads import Head
from tlx.models.model import Model
from tlx.training.step import make_train_step

ROWS, RATE, STEPS = 8, 0.1, 3
HEADS = {
    "colour": Head("classification", 3, pooling="cls"), "shape": Head("classification", 2, pooling="cls"),
    "size": Head("regression", 1, pooling="cls"),
}  # fmt: skip
TASKS = {name: TaskLabels(f"label_{name}") for name in HEADS}
NAMES = tuple(HEADS)


def model_of(heads: dict[str, Head] = HEADS, module: Any = None, width: int = WIDTH) -> Model:
    config = CustomConfig((), (("x", (1, width), "float32"),))
    return Model(Custom(config, None, module or Dense()), tuple(heads.items()), config.head_settings)


def batch_of(seed: int = 0, missing: tuple[str, ...] = ()) -> dict[str, Any]:
    """Rows with a label of each task, some of which are missing, and a row of padding; none of the tasks `missing`."""
    draw = np.random.default_rng(seed)
    rows = {
        "x": draw.normal(size=(ROWS, WIDTH)), "valid": np.arange(ROWS) < ROWS - 1,
        "label_colour": draw.integers(0, 3, ROWS), "label_shape": draw.integers(0, 2, ROWS),
        "label_size": draw.normal(size=(ROWS, 1)),
    }  # fmt: skip
    for index, name in enumerate(NAMES):
        known = np.arange(ROWS) % (index + 2) != 1 if name not in missing else np.zeros(ROWS, bool)
        rows[f"label_{name}_mask"] = known
        if rows[f"label_{name}"].dtype == int:
            rows[f"label_{name}"] = np.where(known, rows[f"label_{name}"], -1)
    return {"train": rows}


BATCHES = [batch_of(seed) for seed in range(STEPS)]


def loss(params: Any, rows: Any, name: str) -> Any:
    """A task's mean loss, 0 without examples, in optax's terms."""
    hidden = jnp.tanh(rows["x"] @ params["backbone"]["dense_0"]["kernel"] + params["backbone"]["dense_0"]["bias"])
    output = params["heads"][name]["output"]
    logits = hidden @ output["kernel"] + output["bias"]
    labels, weight = rows[f"label_{name}"], rows["valid"] * rows[f"label_{name}_mask"]
    if name == "size":
        losses = ((logits - labels) ** 2).mean(axis=-1)
    else:
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(labels, 0))
    return (losses * weight).sum() / jnp.maximum(weight.sum(), 1)


def by_hand(params: Any, rows: Any, weigh: Any, heads: bool, names: tuple[str, ...] = NAMES) -> Any:
    """The parameters after a step of gradient descent; `weigh` gets the matrix of shared gradients and the losses."""
    found = [jax.value_and_grad(loss)(params, rows, name) for name in names]
    matrix = jnp.stack([ravel_pytree(gradient["backbone"])[0] for _, gradient in found])
    weights = weigh(matrix, jnp.stack([value for value, _ in found]))
    back = ravel_pytree(params["backbone"])[1]
    own = weights if heads else jnp.ones(len(names))
    moved = {
        name: jax.tree.map(lambda p, g, s=own[i]: p - RATE * s * g, params["heads"][name], found[i][1]["heads"][name])
        for i, name in enumerate(names)
    }
    change = back(RATE * weights @ matrix)
    return {
        **params, "backbone": jax.tree.map(jnp.subtract, params["backbone"], change),
        "heads": {**params["heads"], **moved},
    }  # fmt: skip


def run(method: Any, batches: Any, **options: Any) -> Any:
    """The states before and after each step."""
    optimizers = dict.fromkeys(method.players, optax.sgd(RATE))
    state, player_of = started(method, method.model, optimizers)
    step = jax.jit(make_train_step(method, optimizers, player_of, **options))
    states, metrics = [state], []
    for batch in batches:
        state, logged = step(state, batch, KEY)
        states.append(state)
        metrics.append(logged)
    return states, metrics


def same(found: Any, expected: Any) -> None:
    for name in ("backbone", "heads"):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-9), found[name], expected[name])


GRADIENT_METHODS = {
    "mgda": (balance.Mgda(), lambda g: multitask.mgda(g).weights),
    "cagrad": (balance.CaGrad(c=0.4), lambda g: multitask.cagrad(g, c=0.4).weights),
    "imtl_g": (balance.ImtlG(), lambda g: multitask.imtl_g(g).weights),
    "nash_mtl": (balance.NashMtl(max_norm=1.0), lambda g: multitask.nash_mtl(g, max_norm=1.0).weights),
    "aligned_mtl": (balance.AlignedMtl(), lambda g: multitask.aligned_mtl(g).weights),
}

EVERY = {
    "equal": balance.Balance(), "rlw": balance.RandomWeights(), "famo": balance.Famo(),
    "dwa": balance.DynamicWeightAverage(), "gradnorm": balance.GradNorm(), "pcgrad": balance.PcGrad(),
    **{name: chosen for name, (chosen, _) in GRADIENT_METHODS.items()}, "uncertainty": None,
}  # fmt: skip


def method_of(name: str, model: Model, tasks: Any) -> MultiTask:
    if name == "uncertainty":
        return UncertaintyWeighted(model, tasks, prepare)
    return MultiTask(model, tasks, prepare, EVERY[name])
