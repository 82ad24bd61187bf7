"""Several updates, players and losses in one step, against loops written by hand in NumPy, in float64.

The model is linear: a feature w·x and two regressions a, b on it, so that every gradient is a line of NumPy.
"""

import dataclasses
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tlx.methods.api import Carried, Context, Update
from tlx.training.gradient import differentiate, to_microbatches
from tlx.training.state import State, init_state
from tlx.training.step import make_train_step

random = np.random.default_rng(0)
ROWS, WIDTH = 12, 5
X, Y = random.standard_normal((ROWS, WIDTH)), random.standard_normal(ROWS)
VALID = np.array([1, 0, 1, 1, 1, 0, 0, 1, 1, 1, 1, 0], float)
BATCH = {"train": {"x": X, "y": Y, "valid": VALID}}
START = {"w": random.standard_normal(WIDTH), "a": np.array(0.7), "b": np.array(-0.4)}
OWNER = {"w": "feature", "a": "heads", "b": "heads"}
KEY = jax.random.key(3)
CLIP = 0.5


def errors(params: Any, batch: Any, head: str) -> Any:
    rows = batch["train"]
    return params[head] * (rows["x"] @ params["w"]) - rows["y"]


def supervised(params: Any, batch: Any, carried: Carried, context: Context) -> Any:
    """Both heads on the labels."""
    valid = batch["train"]["valid"]
    return {head: ((valid * errors(params, batch, head) ** 2).sum(), valid.sum()) for head in "ab"}, carried


def discrepancy(sign: float) -> Any:
    """How far the heads are apart, on all rows."""

    def losses(params: Any, batch: Any, carried: Carried, context: Context) -> Any:
        apart = errors(params, batch, "a") - errors(params, batch, "b")
        carried = dataclasses.replace(carried, method={"seen": carried.method["seen"] + 1})
        return {"apart": (sign * (apart**2).sum(), jnp.asarray(len(apart), jnp.float64))}, carried

    return losses


UPDATES = (
    Update(supervised, ("feature", "heads"), name="source"),
    Update(discrepancy(-1.0), ("heads",), name="maximize"),
    Update(discrepancy(1.0), ("feature",), name="minimize", repeat=2),
)


def start(optimizers: Any, player_of: Any = OWNER, method_state: Any = None) -> State:
    return init_state(jax.tree.map(jnp.asarray, START), player_of, optimizers, method_state)


class Adam:
    """Kingma & Ba 2015, algorithm 1, at a rate that is given from outside."""

    def __init__(self) -> None:
        self.m: dict[str, Any] = {}
        self.v: dict[str, Any] = {}
        self.t = 0

    def step(self, params: dict[str, Any], gradient: dict[str, Any], rate: float) -> None:
        self.t += 1
        for name, g in gradient.items():
            self.m[name] = 0.9 * self.m.get(name, 0) + 0.1 * g
            self.v[name] = 0.999 * self.v.get(name, 0) + 0.001 * g**2
            m, v = self.m[name] / (1 - 0.9**self.t), self.v[name] / (1 - 0.999**self.t)
            params[name] = params[name] - rate * m / (np.sqrt(v) + 1e-8)


def by_hand(steps: int, rate: float, clip: float) -> tuple[dict[str, Any], dict[str, float]]:
    """Maximum classifier discrepancy's form: a supervised update, one of the heads, two of the feature."""
    p: dict[str, Any] = {name: np.array(value) for name, value in START.items()}
    adam = {"feature": Adam(), "heads": Adam()}
    logged: dict[str, float] = {}

    def clipped(gradient: dict[str, Any]) -> dict[str, Any]:
        norm = np.sqrt(sum((g**2).sum() for g in gradient.values()))
        return {name: g * min(1.0, clip / norm) for name, g in gradient.items()}

    for _ in range(steps):
        z, n = X @ p["w"], VALID.sum()
        e = {h: p[h] * z - Y for h in "ab"}
        logged["source/loss"] = sum((VALID * e[h] ** 2).sum() / n for h in "ab")
        g = {h: 2 * (VALID * e[h] * z).sum() / n for h in "ab"}
        g["w"] = sum(2 * p[h] * X.T @ (VALID * e[h]) / n for h in "ab")
        g = clipped(g)
        adam["feature"].step(p, {"w": g["w"]}, rate)
        adam["heads"].step(p, {h: g[h] for h in "ab"}, rate)
        z, apart = X @ p["w"], p["a"] - p["b"]
        logged["maximize/loss"] = -(apart**2) * (z**2).mean()
        g = {"a": -2 * apart * (z**2).mean(), "b": 2 * apart * (z**2).mean()}
        adam["heads"].step(p, clipped(g), rate)
        both = []
        for _ in range(2):
            z, apart = X @ p["w"], p["a"] - p["b"]
            both.append(apart**2 * (z**2).mean())
            adam["feature"].step(p, clipped({"w": 2 * apart**2 * X.T @ z / ROWS}), rate)
        logged["minimize/loss"] = float(np.mean(both))
    return p, logged


@pytest.mark.parametrize("parts", [1, 3])
def test_two_players_and_three_updates(x64: None, parts: int) -> None:
    """The whole of a step of maximum classifier discrepancy, clipping included, whole and in micro-batches."""
    optimizers = {name: optax.adam(1e-2) for name in ("feature", "heads")}
    method: Any = SimpleNamespace(updates=UPDATES)
    step = jax.jit(make_train_step(method, optimizers, OWNER, clip=CLIP, accumulate=parts))
    state = start(optimizers, method_state={"seen": jnp.zeros(())})
    metrics: Any = {}
    for _ in range(5):
        state, metrics = step(state, BATCH, KEY)
    expected, logged = by_hand(5, 1e-2, CLIP)
    for name, value in expected.items():
        np.testing.assert_allclose(state.params[name], value, rtol=1e-9, atol=1e-12, err_msg=name)
    for name, value in logged.items():
        assert float(metrics[name]) == pytest.approx(value, rel=1e-9), name
    assert float(metrics["loss"]) == pytest.approx(sum(logged.values()), rel=1e-9)
    assert int(state.opt_state["feature"][0].count) == 15 and int(state.opt_state["heads"][0].count) == 10
    assert float(state.method_state["seen"]) == 15 * parts  # three times a step, once a micro-batch


def test_updates_without_names_of_their_own_are_refused() -> None:
    method: Any = SimpleNamespace(updates=(UPDATES[0], dataclasses.replace(UPDATES[1], name="source")))
    with pytest.raises(ValueError, match="different names"):
        make_train_step(method, {}, OWNER)


def project(gradients: Any, losses: Any, counts: Any, method_state: Any) -> Any:
    """Each of two gradients less its part against the other (PCGrad for two tasks), summed."""

    def dot(left: Any, right: Any) -> Any:
        return sum(jnp.vdot(x, y) for x, y in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True))

    a, b = gradients["a"], gradients["b"]
    inner = jnp.minimum(dot(a, b), 0.0)
    left = jax.tree.map(lambda x, y: x - inner / dot(b, b) * y, a, b)
    right = jax.tree.map(lambda x, y: y - inner / dot(a, a) * x, a, b)
    return jax.tree.map(jnp.add, left, right), {"inner": inner}


@pytest.mark.parametrize("parts", [1, 4])
def test_combine_gets_the_gradient_of_each_loss_before_clipping(x64: None, parts: int) -> None:
    """Gradient descent with momentum, against a loop in NumPy; the gradients are at odds in some of its steps."""
    optimizers = {"feature": optax.sgd(0.2, momentum=0.9)}
    player_of = {"w": "feature", "a": None, "b": None}
    method: Any = SimpleNamespace(updates=(Update(supervised, ("feature",), combine=project),))
    step = jax.jit(make_train_step(method, optimizers, player_of, clip=CLIP, accumulate=parts))
    state = start(optimizers, player_of, {"inner": jnp.zeros(())})
    w, trace, inner = 1.5 * START["w"], np.zeros(WIDTH), []
    state = dataclasses.replace(state, params={**state.params, "w": jnp.asarray(w)})
    for _ in range(12):
        state, metrics = step(state, BATCH, KEY)
        z = X @ w
        a, b = (2 * START[h] * X.T @ (VALID * (START[h] * z - Y)) / VALID.sum() for h in "ab")
        inner.append(min(a @ b, 0.0))
        both = a - inner[-1] / (b @ b) * b + b - inner[-1] / (a @ a) * a
        assert float(metrics["gradient_norm"]) == pytest.approx(np.linalg.norm(both), rel=1e-9)
        trace = 0.9 * trace + both * min(1.0, CLIP / np.linalg.norm(both))
        w = w - 0.2 * trace
        np.testing.assert_allclose(state.params["w"], w, rtol=1e-9)
        assert float(state.method_state["inner"]) == pytest.approx(inner[-1], rel=1e-9)
    assert min(inner) < 0 == max(inner)


def test_combine_costs_one_forward_pass() -> None:
    """Compiled FLOPs of a wide network with two losses on its output: a forward pass and a backward pass a loss."""
    width, depth, rows = 128, 4, 256
    params = {f"layer_{i}": jnp.zeros((width, width)) for i in range(depth)}

    def losses(params: Any, batch: Any, carried: Carried, context: Context) -> Any:
        h = batch["train"]["x"]
        for layer in params.values():
            h = jnp.tanh(h @ layer)
        return {"a": (h[:, 0].sum(), jnp.asarray(rows)), "b": ((h[:, 1] ** 2).sum(), jnp.asarray(rows))}, carried

    def flops(combine: Any) -> float:
        update = Update(losses, ("model",), combine=combine)
        batch = to_microbatches({"train": {"x": jnp.zeros((rows, width))}}, 1)
        context = Context(KEY, jnp.zeros((), jnp.int32), jnp.zeros(()))
        lowered = jax.jit(lambda p: differentiate(update, p, dict.fromkeys(p), batch, Carried({}), context).gradient)
        cost: Any = lowered.lower(params).compile().cost_analysis()
        return float(cost["flops"])

    product = 2 * rows * width * width
    forward, backward = depth * product, (2 * depth - 1) * product  # the input has no gradient
    summed = flops(None)
    combined = flops(lambda g, losses, counts, state: (jax.tree.map(lambda x, y: x + y, g["a"], g["b"]), state))
    assert summed == pytest.approx(forward + backward, rel=0.02)
    assert combined == pytest.approx(forward + 2 * backward, rel=0.02)


def test_a_count_is_a_constant_unless_its_loss_says_otherwise(x64: None) -> None:
    """Weights that depend on the parameters; the gradient by finite differences, whole and in micro-batches."""

    def losses(params: Any, batch: Any, carried: Carried, context: Context) -> Any:
        weight = jax.nn.sigmoid(batch["train"]["x"] @ params["w"])
        return {"soft": ((weight * errors(params, batch, "a") ** 2).sum(), weight.sum())}, carried

    def value(w: Any, counted_at: Any) -> float:
        weight, count = (1 / (1 + np.exp(-X @ v)) for v in (w, counted_at))
        return float((weight * (START["a"] * (X @ w) - Y) ** 2).sum() / count.sum())

    context = Context(KEY, jnp.zeros((), jnp.int32), jnp.zeros(()))
    trainable, fixed = {**START, "a": None, "b": None}, {**START, "w": None}
    for names in ((), ("soft",)):
        update = Update(losses, ("feature",), differentiable_counts=names)
        step = 1e-6 * np.eye(WIDTH)
        expected = [
            (value(START["w"] + d, START["w"] + d if names else START["w"])
             - value(START["w"] - d, START["w"] - d if names else START["w"])) / 2e-6
            for d in step
        ]  # fmt: skip
        for parts in (1, 3):
            result = differentiate(update, trainable, fixed, to_microbatches(BATCH, parts), Carried({}), context)
            np.testing.assert_allclose(result.gradient["w"], expected, rtol=1e-6)
            assert float(result.loss) == pytest.approx(value(START["w"], START["w"]), rel=1e-12)


def test_a_player_without_examples_does_not_move_by_one_bit(x64: None) -> None:
    """Decay, momentum and count included; the other player moves as if the first were not there."""
    rows = {"x": X, "y": Y, "valid": VALID, "task": np.arange(ROWS) % 2}

    def losses(params: Any, batch: Any, carried: Carried, context: Context) -> Any:
        task = batch["train"]["task"]
        return {
            head: ((mask := (task == index).astype(jnp.float64)) @ errors(params, batch, head) ** 2, mask.sum())
            for index, head in enumerate("ab")
        }, carried

    player_of = {"w": None, "a": "head_a", "b": "head_b"}
    update = Update(losses, ("head_a", "head_b"), needs={"head_a": ("a",), "head_b": ("b",)})
    optimizers = {name: optax.adamw(1e-2, weight_decay=0.1) for name in ("head_a", "head_b")}
    step = jax.jit(make_train_step(SimpleNamespace(updates=(update,)), optimizers, player_of))  # type: ignore[arg-type]
    state, _ = step(start(optimizers, player_of, {}), {"train": rows}, KEY)
    before = jax.device_get(state)
    state, _ = step(state, {"train": {**rows, "task": np.zeros(ROWS, int)}}, KEY)
    after = jax.device_get(state)
    assert after.params["a"] != before.params["a"]
    for old, new in zip(
        jax.tree.leaves((before.params["b"], before.opt_state["head_b"])),
        jax.tree.leaves((after.params["b"], after.opt_state["head_b"])),
        strict=True,
    ):
        assert old.tobytes() == new.tobytes()
    assert int(after.opt_state["head_a"][0].count) == 2 and int(after.opt_state["head_b"][0].count) == 1


def test_losses_know_step_and_progress(x64: None) -> None:
    """A loss that grows with the run: its gradient at each step is known."""

    def losses(params: Any, batch: Any, carried: Carried, context: Context) -> Any:
        return {"only": (context.progress * params["a"] + 0 * context.step, jnp.ones(()))}, carried

    player_of = {"w": None, "a": "heads", "b": None}
    optimizers = {"heads": optax.sgd(1.0)}
    method: Any = SimpleNamespace(updates=(Update(losses, ("heads",)),))
    step = jax.jit(make_train_step(method, optimizers, player_of, total_steps=4))
    state = start(optimizers, player_of, {})
    for taken in range(4):
        before = float(state.params["a"])
        state, _ = step(state, BATCH, KEY)
        assert before - float(state.params["a"]) == pytest.approx(taken / 4, abs=1e-7)
