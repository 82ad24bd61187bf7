"""The training step: for each update of the method differentiate, clip once, let each player move its own."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from tlx.methods.api import Batch, Method, Update
from tlx.optim.averages import Share, follow
from tlx.optim.sharpness import Ascent
from tlx.params.partition import merge
from tlx.params.paths import map_with_path
from tlx.training.gradient import cut, differentiate
from tlx.training.state import ANSWERS, Owners, State, owned_by

Metrics = dict[str, jax.Array]
Penalty = Callable[[Any, Any], jax.Array]  # (trainable leaves, constants) -> what is added to the loss


def make_train_step(
    method: Method,
    optimizers: Mapping[str, optax.GradientTransformation],
    owner: Owners,
    *,
    clip: float | None = None,
    clip_value: float | None = None,
    accumulate: int = 1,
    ascent: Ascent | None = None,
    penalty: Penalty | None = None,
    average: Share | None = None,
) -> Callable[..., tuple[State, Metrics]]:
    """A pure `(state, batch, key, constants=None) -> (state, metrics)`, to be jitted.

    The key is the run's; with the step it decides every random number. It is an argument so that runs of other seeds
    find the compiled step in the cache. constants: arrays that stay as they are (anchors), not to be donated.

    Only what an update's players own is differentiated: a frozen leaf has no gradient, no optimizer state and no
    update, whatever is clipped or logged.

    Args:
      method: gives the updates.
      optimizers: one per player.
      owner: whose each path is.
      clip: the largest global norm of an update's gradient; None: as it is.
      clip_value: the largest absolute value of an entry of the gradient, before its norm is clipped; None: as it is.
      accumulate: how many micro-batches a batch is cut into; they run one after the other, in less memory.
      ascent: where the gradient is taken instead (SAM), by a second pass over the whole batch with the same dropout.
        The loss that is logged and the method's state are the first pass's.
      penalty: what an update's loss has besides the method's, once a batch.
      average: how the state's average follows the parameters after each step.
    """

    def train_step(state: State, batch: Batch, key: jax.Array, constants: Any = None) -> tuple[State, Metrics]:
        metrics: Metrics = {}
        at_step = jax.random.fold_in(key, state.step)
        for index, update in enumerate(method.updates):
            state, logged = one_update(update, state, batch, jax.random.fold_in(at_step, index), constants)
            metrics.update(logged)
        state = dataclasses.replace(state, step=state.step + 1)
        if average is not None:
            learnt = owned_by(state.params, owner, tuple(optimizers))
            mean = follow(state.averages[ANSWERS], learnt, average(state.step))
            state = dataclasses.replace(state, averages={**state.averages, ANSWERS: mean})
        return state, metrics

    def one_update(update: Update, state: State, batch: Batch, key: jax.Array, constants: Any) -> tuple[State, Metrics]:
        trainable = owned_by(state.params, owner, update.players)
        fixed = map_with_path(lambda path, leaf: None if owner[path] in update.players else leaf, state.params)
        parts = cut(batch, accumulate)

        def gradient_at(point: Any) -> tuple[tuple[jax.Array, Metrics, Any], Any]:
            (loss, means, method_state), gradient = differentiate(update, point, fixed, parts, state.method_state, key)
            if penalty is not None:
                value, more = jax.value_and_grad(penalty)(point, constants)
                loss, means = loss + value, {**means, "penalty": value}
                gradient = jax.tree.map(jnp.add, gradient, more)
            return (loss, means, method_state), gradient

        (loss, means, method_state), gradient = gradient_at(trainable)
        if ascent is not None:
            _, gradient = gradient_at(ascent(trainable, gradient))
        norm = optax.global_norm(gradient)
        if clip_value is not None:
            gradient, _ = optax.clip(clip_value).update(gradient, optax.EmptyState())
        if clip is not None:
            gradient, _ = optax.clip_by_global_norm(clip).update(gradient, optax.EmptyState())
        opt_state = dict(state.opt_state)
        for player in update.players:
            own = owned_by(trainable, owner, (player,))
            own_gradient = owned_by(gradient, owner, (player,))
            updates, opt_state[player] = optimizers[player].update(own_gradient, opt_state[player], own)
            trainable = merge(optax.apply_updates(own, updates), trainable)
        params = merge(trainable, fixed)
        state = dataclasses.replace(state, params=params, opt_state=opt_state, method_state=method_state)
        named = {f"loss/{name}": mean for name, mean in means.items()} if len(means) > 1 else {}
        return state, {"loss": loss, "gradient_norm": norm, **named}

    return train_step
