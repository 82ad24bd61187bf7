"""Several heads in the training step: tasks without examples, resumption, passes through the backbone, streams."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.methods.domains import KEY, Dense, prepare, started
from tests.methods.multitask.network import (
    BATCHES,
    EVERY,
    NAMES,
    RATE,
    TASKS,
    batch_of,
    method_of,
    model_of,
    run,
    same,
)
from tlx.errors import TlxError
from tlx.methods.multitask import balance
from tlx.methods.multitask.method import MultiTask, TaskLabels, UncertaintyWeighted
from tlx.models.heads import Head
from tlx.training.step import make_train_step


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
