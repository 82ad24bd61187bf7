"""The training step. For each update of the method it differentiates, clips, and applies each player's optimizer."""

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
Penalty = Callable[[Any, Any], jax.Array]  # (trainable parameters, constants) -> scalar that is added to the loss


@struct.dataclass
class Rates:
    """The learning rates and the length of the run, as arrays.

    They are arguments of the step, so that runs with other learning rates and lengths use the same compiled program.

    Attributes:
      by_group: for the label of each inner optimizer (see `tlx.optim.groups.rate_tables`), float32 (at least `total`,),
        the learning rate of each step of the run.
      total: int32 (), number of steps of the run.
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
    """Makes a pure function `(state, batch, key, constants=None, rates=None) -> (state, metrics)`, to be jitted.

    `key` is the random key of the run; together with the step it determines all random numbers. `constants` are arrays
    that do not change, such as the starting point of L2-SP; they must not be donated. `rates` are the learning rates.
    Key and rates are arguments so that runs with other seeds and rates use the same compiled program. Without `rates`,
    the optimizers' own schedules and `total_steps` are used.

    Only the parameters of an update's players are differentiated. A frozen parameter has no gradient, no optimizer
    state and no update, and does not enter clipping or logging.

    Args:
      method: the method, which has the updates.
      optimizers: the optimizer of each player.
      player_of: the player of each path; None if it is frozen.
      clip: largest global norm of an update's gradient; None: no clipping.
      clip_value: largest absolute value of an entry of the gradient, clipped before the norm; None: no clipping.
      accumulate: number of micro-batches of a batch, which are computed one after the other to save memory.
      perturbation: for sharpness-aware minimization, a function from parameters and gradient to the parameters at which
        the gradient is computed again, with the same batch and dropout. The loss that is logged and the method's state
        are those of the first pass.
      penalty: a term that is added to each update's loss, once for each batch.
      average: the weight of the average's update after each step; None: there is no average.
      total_steps: number of steps of the run, for `Context.progress` if the step gets no `rates`; 0: progress is 0.
      frozen: path prefixes of frozen parts, which run as in evaluation.

    Raises:
      ValueError: if a method has several updates without different names.
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
            trained = leaves_of(state.params, player_of, tuple(optimizers))
            mean = update_average(state.averages[EVAL_PARAMS], trained, average(state.step))
            state = dataclasses.replace(state, averages={**state.averages, EVAL_PARAMS: mean})
        return state, metrics

    def repeated(update: Update, state: State, batch: Batch, context: Context, rates: Any) -> tuple[State, Metrics]:
        """Applies an update `update.repeat` times; the metrics are means over these."""
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
            before = leaves_of(trainable, player_of, (player,)), opt_state[player]
            player_gradient = leaves_of(gradient, player_of, (player,))
            after = apply_optimizer(player, *before, player_gradient, state.step, rates)
            if player in update.needs:
                present = sum(result.counts[name] for name in update.needs[player]) > 0
                after = jax.tree.map(lambda new, old, keep=present: jnp.where(keep, new, old), after, before)
            trainable, opt_state[player] = merge(after[0], trainable), after[1]
        params = merge(trainable, fixed)
        state = dataclasses.replace(
            state, params=params, opt_state=opt_state,
            method_state=result.carried.method, model_state=result.carried.model,
        )  # fmt: skip
        by_loss = {f"loss/{name}": mean for name, mean in result.losses.items()} if len(result.losses) > 1 else {}
        return state, {"loss": result.loss, "gradient_norm": norm, **by_loss}

    def apply_optimizer(
        player: str, params: Any, moments: Any, gradient: Any, step: jax.Array, rates: Any
    ) -> tuple[Any, Any]:
        """A player's parameters and optimizer state after its optimizer's update."""
        optimizer = optax.with_extra_args_support(optimizers[player])
        updates, moments = optimizer.update(gradient, moments, params, step=step, rates=rates)
        return optax.apply_updates(params, updates), moments

    return train_step
