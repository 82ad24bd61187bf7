"""The training step: for each update of the method differentiate, clip once, let each player move its own."""

import dataclasses
from collections.abc import Callable, Mapping

import jax
import optax

from tlx.methods.api import Batch, Method, Update
from tlx.params.partition import merge
from tlx.params.paths import map_with_path
from tlx.training.gradient import cut, differentiate
from tlx.training.state import Owners, State, owned_by

Metrics = dict[str, jax.Array]


def make_train_step(
    method: Method,
    optimizers: Mapping[str, optax.GradientTransformation],
    owner: Owners,
    *,
    clip: float | None = None,
    accumulate: int = 1,
) -> Callable[[State, Batch, jax.Array], tuple[State, Metrics]]:
    """A pure `(state, batch, key) -> (state, metrics)`, to be jitted.

    The key is the run's; with the step it decides every random number. It is an argument so that runs of other seeds
    find the compiled step in the cache.

    Only what an update's players own is differentiated: a frozen leaf has no gradient, no optimizer state and no
    update, whatever is clipped or logged.

    Args:
      method: gives the updates.
      optimizers: one per player.
      owner: whose each path is.
      clip: the largest global norm of an update's gradient; None: as it is.
      accumulate: how many micro-batches a batch is cut into; they run one after the other, in less memory.
    """

    def train_step(state: State, batch: Batch, key: jax.Array) -> tuple[State, Metrics]:
        metrics: Metrics = {}
        at_step = jax.random.fold_in(key, state.step)
        for index, update in enumerate(method.updates):
            state, logged = one_update(update, state, batch, jax.random.fold_in(at_step, index))
            metrics.update(logged)
        return dataclasses.replace(state, step=state.step + 1), metrics

    def one_update(update: Update, state: State, batch: Batch, key: jax.Array) -> tuple[State, Metrics]:
        trainable = owned_by(state.params, owner, update.players)
        fixed = map_with_path(lambda path, leaf: None if owner[path] in update.players else leaf, state.params)
        (loss, means, method_state), gradient = differentiate(
            update, trainable, fixed, cut(batch, accumulate), state.method_state, key
        )
        norm = optax.global_norm(gradient)
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
