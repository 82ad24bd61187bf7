"""The training step: for each update of the method differentiate, clip once, let each player move its own."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from tlx.methods.api import Batch, Carried, Context, Method, Update
from tlx.optim.averages import AverageWeight, update_average
from tlx.optim.sharpness import Perturbation
from tlx.params.partition import merge
from tlx.params.paths import map_with_path
from tlx.training.gradient import Result, differentiate, to_microbatches
from tlx.training.state import EVAL_PARAMS, PlayerOf, State, leaves_of

Metrics = dict[str, jax.Array]
Penalty = Callable[[Any, Any], jax.Array]  # (trainable leaves, constants) -> what is added to the loss


@struct.dataclass
class Rates:
    """What a step knows of the run's course, as arrays, so that runs of other rates and lengths share its program.

    Attributes:
      by_group: the learning rate by the run's step, (steps or more,), by the label of each inner optimizer (see
        `tlx.optim.groups.rate_tables`).
      total: int32 (), steps of the run.
    """

    by_group: dict[str, jax.Array]
    total: jax.Array


def make_train_step(
    method: Method,
    optimizers: Mapping[str, optax.GradientTransformation],
    player_of: PlayerOf,
    *,
    clip: float | None = None,
    clip_value: float | None = None,
    accumulate: int = 1,
    perturbation: Perturbation | None = None,
    penalty: Penalty | None = None,
    average: AverageWeight | None = None,
    total_steps: int = 0,
    frozen: tuple[str, ...] = (),
) -> Callable[..., tuple[State, Metrics]]:
    """A pure `(state, batch, key, constants=None, rates=None) -> (state, metrics)`, to be jitted.

    The key is the run's; with the step it decides every random number. It is an argument so that runs of other seeds
    find the compiled step in the cache, and so are the `Rates`; without them the optimizers' own schedules and
    `total_steps` are compiled in. constants: arrays that stay as they are (anchors), not to be donated.

    Only what an update's players own is differentiated: a frozen leaf has no gradient, no optimizer state and no
    update, whatever is clipped or logged.

    Args:
      method: gives the updates.
      optimizers: one per player.
      owner: whose each path is.
      clip: the largest global norm of an update's gradient; None: as it is.
      clip_value: the largest absolute value of an entry of the gradient, before its norm is clipped; None: as it is.
      accumulate: how many micro-batches a batch is cut into; they run one after the other, in less memory.
      perturbation: where the gradient is taken instead (SAM), by a second pass over the whole batch with the same
        dropout. The loss that is logged and the method's state are the first pass's.
      penalty: what an update's loss has besides the method's, once a batch.
      total_steps: of the run, for the context's `progress` where the step is given no `Rates`; 0: it is always 0.
      frozen: path prefixes of blocks in which nothing learns; they run as in evaluation.
      average: how the state's average follows the parameters after each step.
    """

    names = [update.name for update in method.updates]
    if len(names) > 1 and (len(set(names)) < len(names) or "" in names):
        raise ValueError(f"the updates of a method with several need different names; found {names}.")

    def train_step(
        state: State, batch: Batch, key: jax.Array, constants: Any = None, rates: Rates | None = None
    ) -> tuple[State, Metrics]:
        metrics: Metrics = {}
        at_step = jax.random.fold_in(key, state.step)
        total = total_steps if rates is None else rates.total
        progress = jnp.asarray(state.step / total if rates or total_steps else 0, jnp.float32)
        now = None if rates is None else {label: table[state.step] for label, table in rates.by_group.items()}
        for index, update in enumerate(method.updates):
            context = Context(jax.random.fold_in(at_step, index), state.step, progress, constants, frozen=frozen)
            state, logged = repeated(update, state, batch, context, now)
            metrics.update({f"{update.name}/{name}" if update.name else name: value for name, value in logged.items()})
        if "" not in names:
            metrics["loss"] = sum((metrics[f"{name}/loss"] for name in names), jnp.zeros(()))
        state = dataclasses.replace(state, step=state.step + 1)
        if average is not None:
            learnt = leaves_of(state.params, player_of, tuple(optimizers))
            mean = update_average(state.averages[EVAL_PARAMS], learnt, average(state.step))
            state = dataclasses.replace(state, averages={**state.averages, EVAL_PARAMS: mean})
        return state, metrics

    def repeated(update: Update, state: State, batch: Batch, context: Context, rates: Any) -> tuple[State, Metrics]:
        """The update so many times; metrics are means over them."""
        if update.repeat == 1:
            return one_update(update, state, batch, context, rates)
        keys = jax.vmap(lambda time: jax.random.fold_in(context.key, time))(jnp.arange(update.repeat))
        state, logged = jax.lax.scan(
            lambda state, key: one_update(update, state, batch, dataclasses.replace(context, key=key), rates),
            state,
            keys,
        )
        return state, jax.tree.map(lambda values: values.mean(axis=0), logged)

    def one_update(update: Update, state: State, batch: Batch, context: Context, rates: Any) -> tuple[State, Metrics]:
        trainable = leaves_of(state.params, player_of, update.players)
        fixed = map_with_path(lambda path, leaf: None if player_of[path] in update.players else leaf, state.params)
        parts = to_microbatches(batch, accumulate)

        def result_at(point: Any) -> Result:
            carried = Carried(state.method_state, state.model_state)
            result = differentiate(update, point, fixed, parts, carried, context)
            if penalty is None:
                return result
            value, more = jax.value_and_grad(penalty)(point, context.constants)
            return dataclasses.replace(
                result,
                losses={**result.losses, "penalty": value},
                gradient=jax.tree.map(jnp.add, result.gradient, more),
            )

        result = result_at(trainable)
        gradient = (
            result.gradient if perturbation is None else result_at(perturbation(trainable, result.gradient)).gradient
        )
        norm = optax.global_norm(gradient)
        if clip_value is not None:
            gradient, _ = optax.clip(clip_value).update(gradient, optax.EmptyState())
        if clip is not None:
            gradient, _ = optax.clip_by_global_norm(clip).update(gradient, optax.EmptyState())
        opt_state = dict(state.opt_state)
        for player in update.players:
            own, own_gradient = leaves_of(trainable, player_of, (player,)), leaves_of(gradient, player_of, (player,))
            moved, moments = move(player, own, own_gradient, opt_state[player], state.step, rates)
            if player in update.needs:
                present = sum(result.counts[name] for name in update.needs[player]) > 0
                moved, moments = jax.tree.map(
                    lambda new, old, keep=present: jnp.where(keep, new, old), (moved, moments), (own, opt_state[player])
                )
            trainable, opt_state[player] = merge(moved, trainable), moments
        params = merge(trainable, fixed)
        state = dataclasses.replace(
            state, params=params, opt_state=opt_state,
            method_state=result.carried.method, model_state=result.carried.model,
        )  # fmt: skip
        named = {f"loss/{name}": mean for name, mean in result.losses.items()} if len(result.losses) > 1 else {}
        return state, {"loss": result.loss, "gradient_norm": norm, **named}

    def move(player: str, own: Any, gradient: Any, moments: Any, step: jax.Array, rates: Any) -> tuple[Any, Any]:
        """One player's parameters and moments after its optimizer's update, at the rate of the run's step."""
        optimizer = optax.with_extra_args_support(optimizers[player])
        updates, moments = optimizer.update(gradient, moments, own, step=step, rates=rates)
        return optax.apply_updates(own, updates), moments

    return train_step
