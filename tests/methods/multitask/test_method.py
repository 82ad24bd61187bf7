"""Several heads on a small dense network in the training step, in float64, against gradients of losses written anew."""

import dataclasses
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from tests.methods.domains import KEY, WIDTH, Dense, prepare, started
from tlx.errors import TlxError
from tlx.methods import multitask
from tlx.methods.multitask import balance
from tlx.methods.multitask.gradients import pcgrad_orders
from tlx.methods.multitask.method import MultiTask, TaskLabels, UncertaintyWeighted
from tlx.models.custom import Custom, CustomConfig
from tlx.models.heads import Head
from tlx.models.model import Model
from tlx.training.means import Means
from tlx.training.step import make_train_step

random = np.random.default_rng(2)
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


@pytest.mark.long
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "cagrad" else pytest.mark.long) for name in GRADIENT_METHODS]
)
def test_gradient_methods_combine_shared_gradients_alone(name: str, accumulate: int, x64: None) -> None:
    chosen, weigh = GRADIENT_METHODS[name]
    states, metrics = run(MultiTask(model_of(), TASKS, prepare, chosen), BATCHES, accumulate=accumulate)
    params = states[0].params
    for batch, state, logged in zip(BATCHES, states[1:], metrics, strict=True):
        for task in NAMES:
            assert float(logged[f"loss/{task}"]) == pytest.approx(float(loss(params, batch["train"], task)), rel=1e-9)
        params = by_hand(params, batch["train"], lambda g, losses: weigh(g), heads=False)
        same(state.params, params)


def test_mgda_by_the_gradients_of_features(x64: None) -> None:
    """The weights are MGDA's of ∂loss/∂features, written anew; a head has its own gradient."""
    states, metrics = run(MultiTask(model_of(), TASKS, prepare, balance.Mgda(upper_bound=True)), BATCHES)
    params = states[0].params
    for batch, state, logged in zip(BATCHES, states[1:], metrics, strict=True):
        rows, layer = batch["train"], params["backbone"]["dense_0"]
        hidden = jnp.tanh(rows["x"] @ layer["kernel"] + layer["bias"])

        def of_features(h: Any, name: str, params: Any = params, rows: Any = rows) -> Any:
            through = {"dense_0": {"kernel": jnp.eye(h.shape[1]), "bias": jnp.zeros(h.shape[1])}}
            return loss({**params, "backbone": through}, {**rows, "x": jnp.arctanh(h)}, name)

        gradients = jnp.stack([jax.grad(of_features)(hidden, name).ravel() for name in NAMES])
        for name in NAMES:
            assert float(logged[f"loss/{name}"]) == pytest.approx(float(loss(params, rows, name)), rel=1e-9)
        weights = multitask.mgda(gradients).weights
        assert np.ptp(weights) > 0.01
        params = by_hand(params, rows, lambda g, losses, w=weights: w, heads=False)
        same(state.params, params)


def test_features_of_a_part_of_a_batch_are_refused() -> None:
    method = MultiTask(model_of(), TASKS, prepare, balance.Mgda(upper_bound=True))
    with pytest.raises(TlxError, match=r"config\.train\.accumulate is 2"):
        run(method, BATCHES[:1], accumulate=2)


def test_cosines_of_shared_gradients_are_logged(x64: None) -> None:
    """Against the angle between gradients that are written anew; a task without examples has none."""
    batches = [BATCHES[0], batch_of(1, missing=("shape",))]
    states, metrics = run(MultiTask(model_of(), TASKS, prepare, balance.PcGrad()), batches)
    means = Means()
    for batch, state, logged in zip(batches, states[:-1], metrics, strict=True):
        means.add(logged)
        found = [jax.grad(loss)(state.params, batch["train"], name)["backbone"] for name in NAMES]
        rows = np.stack([ravel_pytree(tree)[0] for tree in found])
        for (i, one), (j, other) in itertools.combinations(enumerate(NAMES), 2):
            absent = "shape" in (one, other) and batch is batches[1]
            expected = np.nan if absent else rows[i] @ rows[j] / np.linalg.norm(rows[i]) / np.linalg.norm(rows[j])
            assert float(logged[f"cosine/{one}/{other}"]) == pytest.approx(expected, rel=1e-6, nan_ok=True)
    taken = means.take()
    assert taken["train/cosine/colour/shape"] == float(metrics[0]["cosine/colour/shape"])
    both = [float(logged["cosine/colour/size"]) for logged in metrics]
    assert taken["train/cosine/colour/size"] == pytest.approx(np.mean(both))
    losses = run(MultiTask(model_of(), TASKS, prepare), BATCHES[:1])[1]
    assert not any(name.startswith("cosine/") for name in losses[0])


@pytest.mark.long
def test_pcgrad_draws_a_new_order_each_step(x64: None) -> None:
    states, _ = run(MultiTask(model_of(), TASKS, prepare, balance.PcGrad()), BATCHES)
    params, base = states[0].params, jax.random.wrap_key_data(states[0].method_state["key"])
    for index, (batch, state) in enumerate(zip(BATCHES, states[1:], strict=True)):
        key = jax.random.fold_in(base, index)
        params = by_hand(params, batch["train"], lambda g, losses, k=key: multitask.pcgrad(g, k).weights, heads=False)
        same(state.params, params)
    assert len({np.asarray(pcgrad_orders(jax.random.fold_in(base, i), 3)).tobytes() for i in range(3)}) == 3


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("variant", ["paper", "softmax"])
def test_gradnorm_weighs_heads_too(accumulate: int, variant: str, x64: None) -> None:
    chosen = balance.GradNorm(alpha=0.5, rate=0.05, variant=variant)
    states, _ = run(MultiTask(model_of(), TASKS, prepare, chosen), BATCHES, accumulate=accumulate)
    params, carried = states[0].params, {"p": jnp.ones(3) if variant == "paper" else jnp.zeros(3), "first": None}

    def weigh(g: Any, losses: Any) -> Any:
        carried["first"] = losses if carried["first"] is None else carried["first"]
        weights, carried["p"] = multitask.gradnorm(
            g, losses, carried["first"], carried["p"], alpha=0.5, rate=0.05, variant=variant
        )
        return weights

    for batch, state in zip(BATCHES, states[1:], strict=True):
        params = by_hand(params, batch["train"], weigh, heads=True)
        same(state.params, params)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_equal_weights_are_the_sum(accumulate: int, x64: None) -> None:
    tasks = {name: dataclasses.replace(task, weight=1.0 + index) for index, (name, task) in enumerate(TASKS.items())}
    states, _ = run(MultiTask(model_of(), tasks, prepare), BATCHES, accumulate=accumulate)
    params = states[0].params
    for batch, state in zip(BATCHES, states[1:], strict=True):
        params = by_hand(params, batch["train"], lambda g, losses: jnp.array([1.0, 2.0, 3.0]), heads=True)
        same(state.params, params)


def test_rlw_draws_new_weights_each_step(x64: None) -> None:
    states, _ = run(MultiTask(model_of(), TASKS, prepare, balance.RandomWeights("uniform")), BATCHES)
    params, base = states[0].params, jax.random.wrap_key_data(states[0].method_state["key"])
    for index, (batch, state) in enumerate(zip(BATCHES, states[1:], strict=True)):
        weights = multitask.rlw(jax.random.fold_in(base, index), 3, distribution="uniform")
        params = by_hand(params, batch["train"], lambda g, losses, w=weights: w, heads=True)
        same(state.params, params)


def test_dwa_weighs_by_the_last_two_epochs(x64: None) -> None:
    """Three epochs of two steps; the weights of the first two are 1."""
    method = MultiTask(model_of(), TASKS, prepare, balance.DynamicWeightAverage(temperature=0.5))
    optimizers = dict.fromkeys(method.players, optax.sgd(RATE))
    state, player_of = started(method, method.model, optimizers)
    step = jax.jit(make_train_step(method, optimizers, player_of))
    params, means = state.params, []
    assert method.before_epoch is not None
    for epoch in range(3):
        state = dataclasses.replace(state, method_state=method.before_epoch(state.method_state, None, epoch, None))
        weights = np.ones(3)
        if epoch == 2:
            powers = np.exp(means[1] / means[0] / 0.5)
            weights = 3 * powers / powers.sum()
            assert np.ptp(weights) > 0.01
        seen = []
        for batch in (batch_of(2 * epoch), batch_of(2 * epoch + 1)):
            seen.append([float(loss(params, batch["train"], name)) for name in NAMES])
            params = by_hand(params, batch["train"], lambda g, losses, w=weights: jnp.asarray(w), heads=True)
            state, _ = step(state, batch, KEY)
            same(state.params, params)
        means.append(np.mean(seen, axis=0))


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("after", ["same_batch", "next_batch"])
def test_famo_moves_its_logits_by_the_losses_after_the_step(after: str, accumulate: int, x64: None) -> None:
    chosen = balance.Famo(rate=2.0, decay=0.01, after=after)
    states, metrics = run(MultiTask(model_of(), TASKS, prepare, chosen), BATCHES, accumulate=accumulate)
    params, logits, before = states[0].params, jnp.zeros(3), None
    for batch, state in zip(BATCHES, states[1:], strict=True):
        losses = jnp.stack([loss(params, batch["train"], name) for name in NAMES])
        if after == "next_batch" and before is not None:
            logits = multitask.famo_logits(logits, before, losses, rate=2.0, decay=0.01)
        weights = multitask.famo(losses, logits)
        params = by_hand(params, batch["train"], lambda g, losses, w=weights: w, heads=True)
        same(state.params, params)
        before = losses
        if after == "same_batch":
            moved = jnp.stack([loss(params, batch["train"], name) for name in NAMES])
            logits = multitask.famo_logits(logits, losses, moved, rate=2.0, decay=0.01)
        np.testing.assert_allclose(state.method_state["logits"], logits, rtol=1e-7)
    assert np.ptp(logits) > 1e-3 and all(int(logged["skipped"]) == 0 for logged in metrics)


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("variant", ["paper", "half", "log1p"])
def test_uncertainty_trains_a_variance_a_task(variant: str, accumulate: int, x64: None) -> None:
    method = UncertaintyWeighted(model_of(), TASKS, prepare, variant=variant)
    states, metrics = run(method, BATCHES, accumulate=accumulate)

    def objective(params: Any, s: Any, rows: Any) -> Any:
        losses = jnp.stack([loss(params, rows, name) for name in NAMES])
        return multitask.uncertainty(losses, s, jnp.array([True, True, False]), variant=variant).sum()

    params, s = {name: states[0].params[name] for name in ("backbone", "heads")}, np.zeros(3)
    s = jnp.stack([states[0].params["aux"]["uncertainty"][name]["log_variance"] for name in NAMES])
    for batch, state, logged in zip(BATCHES, states[1:], metrics, strict=True):
        plain = sum(float(loss(params, batch["train"], name)) for name in NAMES)
        assert float(logged["loss"]) == pytest.approx(plain, rel=1e-9)
        slopes = jax.grad(objective, (0, 1))(params, s, batch["train"])
        params, s = jax.tree.map(lambda p, g: p - RATE * g, (params, s), slopes)
        same(state.params, params)
        found = [state.params["aux"]["uncertainty"][name]["log_variance"] for name in NAMES]
        np.testing.assert_allclose(found, s, rtol=1e-7)


EVERY = {
    "equal": balance.Balance(), "rlw": balance.RandomWeights(), "famo": balance.Famo(),
    "dwa": balance.DynamicWeightAverage(), "gradnorm": balance.GradNorm(), "pcgrad": balance.PcGrad(),
    **{name: chosen for name, (chosen, _) in GRADIENT_METHODS.items()}, "uncertainty": None,
}  # fmt: skip


def method_of(name: str, model: Model, tasks: Any) -> MultiTask:
    if name == "uncertainty":
        return UncertaintyWeighted(model, tasks, prepare)
    return MultiTask(model, tasks, prepare, EVERY[name])


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in ("equal", "famo", "pcgrad") else pytest.mark.long) for name in EVERY],
)
def test_a_task_without_examples_does_not_move_by_one_bit(name: str, x64: None) -> None:
    """Its head with decay, momentum and count; shared parameters move as if the task were not there."""
    method = method_of(name, model_of(), TASKS)
    optimizers = dict.fromkeys(method.players, optax.adamw(0.05, weight_decay=0.1))
    state, player_of = started(method, method.model, optimizers)
    step = jax.jit(make_train_step(method, optimizers, player_of))
    state, _ = step(state, batch_of(0), KEY)
    before = jax.device_get(state)
    after, logged = step(state, batch_of(1, missing=("shape",)), KEY)
    after = jax.device_get(after)
    assert float(logged["skipped"]) == 0

    def of(state: Any, task: str) -> list[bytes]:
        places = [state.params["heads"][task], state.opt_state[f"task_{task}"]]
        places += [state.params["aux"]["uncertainty"][task]] if name == "uncertainty" else []
        return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(places)]

    assert of(after, "shape") == of(before, "shape")
    assert of(after, "colour") != of(before, "colour")
    assert any(
        (old != new).any()
        for old, new in zip(
            jax.tree.leaves(before.params["backbone"]), jax.tree.leaves(after.params["backbone"]), strict=True
        )
    )


def test_without_any_examples_nothing_is_lost(x64: None) -> None:
    """A batch of padding alone gives finite parameters."""
    for name in ("equal", "famo", "cagrad", "nash_mtl", "gradnorm"):
        states, _ = run(method_of(name, model_of(), TASKS), [batch_of(0), batch_of(1, missing=NAMES), batch_of(2)])
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(states[-1].params))


@pytest.mark.long
@pytest.mark.parametrize("name", EVERY)
def test_a_run_that_goes_on_ends_with_the_same_bits(name: str) -> None:
    """All that a balance knows is arrays of the state."""
    method = method_of(name, model_of(), TASKS)
    states, _ = run(method, [*BATCHES, batch_of(9)])
    optimizers = dict.fromkeys(method.players, optax.sgd(RATE))
    _, player_of = started(method, method.model, optimizers)
    step = jax.jit(make_train_step(method, optimizers, player_of))
    state = jax.tree.map(jnp.asarray, jax.device_get(states[2]))
    for batch in (BATCHES[2], batch_of(9)):
        state, _ = step(state, batch, KEY)
    for one, other in zip(jax.tree.leaves(state), jax.tree.leaves(states[-1]), strict=True):
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


@pytest.mark.long
def test_passes_through_the_backbone() -> None:
    """Compiled FLOPs: one forward pass for all tasks; a backward pass, or one a task for methods of gradients."""
    width, depth, rows = 64, 6, 512
    heads = {name: Head("classification", 2, pooling="cls") for name in "abcd"}
    model = model_of(heads, Dense(width, depth), width)
    tasks = {name: TaskLabels(f"label_{name}") for name in heads}
    batch = {
        "train": {
            "x": jnp.zeros((rows, width)), "valid": jnp.ones(rows, bool),
            **{f"label_{name}": jnp.zeros(rows, jnp.int32) for name in heads},
        }
    }  # fmt: skip

    def flops(name: Any) -> float:
        method = method_of(name, model, tasks) if isinstance(name, str) else name
        optimizers = dict.fromkeys(method.players, optax.sgd(RATE))
        state, player_of = started(method, model, optimizers)
        step = jax.jit(make_train_step(method, optimizers, player_of))
        cost: Any = step.lower(state, batch, KEY).compile().cost_analysis()
        return float(cost["flops"])

    product = 2 * rows * width * width
    forward, backward = depth * product, (2 * depth - 1) * product  # the input has no gradient
    found = {name: flops(name) / (forward + backward) for name in ("equal", "rlw", "uncertainty", "famo")}
    for name in ("equal", "rlw", "uncertainty"):
        assert found[name] == pytest.approx(1, abs=0.12), name
    bound = MultiTask(model, tasks, prepare, balance.Mgda(upper_bound=True))
    assert flops(bound) / (forward + backward) == pytest.approx(1, abs=0.15)  # one pass through the backbone, too
    more = forward / (forward + backward)
    assert found["famo"] == pytest.approx(1 + more, abs=0.15)  # the losses after the step
    for name in ("pcgrad", "cagrad"):
        least = (forward + 4 * backward) / (forward + backward)
        assert least - 0.05 < flops(name) / (forward + backward) < least + 0.25


def test_tasks_of_two_streams_have_a_pass_each(x64: None) -> None:
    """The same rows in two streams give the same step as in one."""
    split = {**TASKS, "size": dataclasses.replace(TASKS["size"], stream="other")}
    method = MultiTask(model_of(), split, prepare)
    assert method.streams == ("train", "other")
    states, _ = run(method, [{"train": batch["train"], "other": batch["train"]} for batch in BATCHES])
    expected, _ = run(MultiTask(model_of(), TASKS, prepare), BATCHES)
    same(states[-1].params, expected[-1].params)


def test_bad_settings_are_refused() -> None:
    with pytest.raises(TlxError, match="'size' has not both"):
        MultiTask(model_of(), {name: TASKS[name] for name in ("colour", "shape")}, prepare)
    with pytest.raises(TlxError, match="it is 'same_batch' or"):
        balance.Famo(after="later")
    with pytest.raises(TlxError, match="uncertainty has no variant"):
        UncertaintyWeighted(model_of(), TASKS, prepare, variant="none")
