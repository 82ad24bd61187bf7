"""The training step. For each update of the method it differentiates, clips, and applies each player's optimizer.

An update whose loss or gradient norm is NaN or infinite is skipped: parameters, moments, counts and all other arrays of
the state keep their bits, and only the number of the step goes on. `jax.lax.cond` is around clipping and optimizers:
the branch is the program that a step without the choice would be, with its bits, memory and memory traffic. A
`jnp.where` on each leaf would need the old moments longer than the new ones, and so temporary memory for them.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
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
from tlx.training.gradient import Result, Values, differentiate, to_microbatches
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
    max_skipped: int | None = None,
) -> "TrainStep":
    """Makes a pure function `(state, batch, key, constants=None, rates=None) -> (state, metrics)`, to be jitted.

    `key` is the random key of the run; together with the step it determines all random numbers. `constants` are arrays
    that do not change, such as the starting point of L2-SP; they must not be donated. `rates` are the learning rates.
    Key and rates are arguments so that runs with other seeds and rates use the same compiled program. Without `rates`,
    the optimizers' own schedules and `total_steps` are used.

    Only the parameters of an update's players are differentiated. A frozen parameter has no gradient, no optimizer
    state and no update, and does not enter clipping or logging.

    The metric `skipped` is the number of the step's updates that were skipped, int32 (). A repeated update counts each
    time. The average is left as it was if all of them were. The step counts as skipped in
    `State.skipped_in_a_row` if any of them was.

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
      max_skipped: number of steps in a row that may be skipped. After one more, all updates of all later steps are
        skipped, so that the state stays as it was before these steps until the loop stops the run; None: no limit.

    Raises:
      ValueError: if a method has several updates without different names.
    """
    names = [update.name for update in method.updates]
    if len(names) > 1 and (len(set(names)) < len(names) or "" in names):
        raise ValueError(f"the updates of a method with several need different names; found {names}.")
    return TrainStep(
        method, optimizers, player_of, clip, clip_value, accumulate, perturbation, penalty, average, total_steps,
        frozen, max_skipped,
    )  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False)
class TrainStep:
    """A training step; `make_train_step` makes one and describes the attributes."""

    method: Method
    optimizers: Mapping[str, optax.GradientTransformation]
    player_of: PlayerOf
    clip: float | None
    clip_value: float | None
    accumulate: int
    perturbation: Perturbation | None
    penalty: Penalty | None
    average: AverageWeight | None
    total_steps: int
    frozen: tuple[str, ...]
    max_skipped: int | None
    __name__ = "train_step"  # XLA's name of the compiled program

    def __call__(
        self, state: State, batch: Batch, key: jax.Array, constants: Any = None, rates: Rates | None = None
    ) -> tuple[State, Metrics]:
        """Takes a step (see `make_train_step`)."""
        metrics: Metrics = {}
        skipped = jnp.zeros((), jnp.int32)
        before = state
        now = self.rates_now(state, rates)
        for update, context in self.contexts(state, key, constants, rates):
            state, logged = self.repeated(update, state, batch, context, now)
            skipped += logged.pop("skipped")
            metrics.update({f"{update.name}/{name}" if update.name else name: value for name, value in logged.items()})
        if (names := [update.name for update in self.method.updates]) and "" not in names:
            metrics["loss"] = sum((metrics[f"{name}/loss"] for name in names), jnp.zeros(()))
        in_a_row = jnp.where(skipped > 0, state.skipped_in_a_row + 1, 0)
        state = dataclasses.replace(state, step=state.step + 1, skipped_in_a_row=in_a_row)
        if self.average is not None:
            trained = leaves_of(state.params, self.player_of, tuple(self.optimizers))
            mean = update_average(state.averages[EVAL_PARAMS], trained, self.average(state.step))
            moved = skipped < sum(update.repeat for update in self.method.updates)
            mean = _where(moved, mean, before.averages[EVAL_PARAMS])
            state = dataclasses.replace(state, averages={**state.averages, EVAL_PARAMS: mean})
        return state, {**metrics, "skipped": skipped}

    def rates_now(self, state: State, rates: Rates | None) -> dict[str, jax.Array] | None:
        """The learning rate of each label in the step that follows a state."""
        return None if rates is None else {label: table[state.step] for label, table in rates.by_group.items()}

    def contexts(
        self, state: State, key: jax.Array, constants: Any, rates: Rates | None
    ) -> Iterator[tuple[Update, Context]]:
        """Yields each update of the step that follows a state, and the context of its forward passes."""
        at_step = jax.random.fold_in(key, state.step)
        total = self.total_steps if rates is None else rates.total
        progress = jnp.asarray(state.step / total if rates or self.total_steps else 0, jnp.float32)
        for index, update in enumerate(self.method.updates):
            update_key = jax.random.fold_in(at_step, index)
            yield update, Context(update_key, state.step, progress, constants, frozen=self.frozen)

    def repeated(
        self, update: Update, state: State, batch: Batch, context: Context, rates: Any
    ) -> tuple[State, Metrics]:
        """Applies an update `update.repeat` times; the metrics are means over these, and `skipped` is their sum."""
        if update.repeat == 1:
            return self.one_update(update, state, batch, context, rates)
        keys = jax.vmap(lambda time: jax.random.fold_in(context.key, time))(jnp.arange(update.repeat))
        state, logged = jax.lax.scan(
            lambda state, key: self.one_update(update, state, batch, dataclasses.replace(context, key=key), rates),
            state,
            keys,
        )
        skipped = logged.pop("skipped").sum(dtype=jnp.int32)
        return state, {**jax.tree.map(lambda values: values.mean(axis=0), logged), "skipped": skipped}

    def one_update(
        self, update: Update, state: State, batch: Batch, context: Context, rates: Any
    ) -> tuple[State, Metrics]:
        """Applies an update once, or skips it. The metric `skipped` is 0 or 1."""
        trainable, fixed = self.split(update, state)
        result = self.gradient(update, state, batch, context)
        norm = optax.global_norm(result.gradient)
        applied = jnp.isfinite(result.loss) & jnp.isfinite(norm)
        if self.max_skipped is not None:
            applied &= state.skipped_in_a_row <= self.max_skipped
        trainable, opt_state = jax.lax.cond(
            applied,
            lambda moved, gradient: self.apply_optimizers(
                update, moved[0], moved[1], gradient, result.counts, state.step, rates
            ),
            lambda moved, gradient: moved,
            (trainable, dict(state.opt_state)),
            result.gradient,
        )
        carried = _where(applied, result.carried, Carried(state.method_state, state.model_state))
        state = dataclasses.replace(
            state, params=merge(trainable, fixed), opt_state=opt_state,
            method_state=carried.method, model_state=carried.model,
        )  # fmt: skip
        by_loss = {f"loss/{name}": mean for name, mean in result.losses.items()} if len(result.losses) > 1 else {}
        skipped = 1 - applied.astype(jnp.int32)
        return state, {"loss": result.loss, "gradient_norm": norm, **by_loss, **result.measured, "skipped": skipped}

    def split(self, update: Update, state: State) -> tuple[Any, Any]:
        """The parameters that an update trains, and the others; each tree has None where the other has a leaf."""
        fixed = map_with_path(lambda path, leaf: None if self.player_of[path] in update.players else leaf, state.params)
        return leaves_of(state.params, self.player_of, update.players), fixed

    def gradient(self, update: Update, state: State, batch: Batch, context: Context) -> Result:
        """The losses and the gradient of an update, before clipping; with SAM, the gradient at its point."""
        trainable, fixed = self.split(update, state)
        parts = to_microbatches(batch, self.accumulate)

        def result_at(point: Any) -> Result:
            carried = Carried(state.method_state, state.model_state)
            result = differentiate(update, point, fixed, parts, carried, context)
            if self.penalty is None:
                return result
            value, more = jax.value_and_grad(self.penalty)(point, context.constants)
            return dataclasses.replace(
                result,
                losses={**result.losses, "penalty": value},
                gradient=jax.tree.map(jnp.add, result.gradient, more),
            )

        result = result_at(trainable)
        if self.perturbation is None:
            return result
        there = result_at(self.perturbation(trainable, result.gradient))
        return dataclasses.replace(result, gradient=there.gradient)

    def clipped(self, gradient: Any) -> Any:
        """The gradient clipped by value and then by norm."""
        if self.clip_value is not None:
            gradient, _ = optax.clip(self.clip_value).update(gradient, optax.EmptyState())
        if self.clip is not None:
            gradient, _ = optax.clip_by_global_norm(self.clip).update(gradient, optax.EmptyState())
        return gradient

    def apply_optimizers(
        self, update: Update, trainable: Any, opt_state: dict[str, Any], gradient: Any, counts: Values,
        step: jax.Array, rates: Any,
    ) -> tuple[Any, dict[str, Any]]:  # fmt: skip
        """The parameters and optimizer states after the clipped gradient is applied by each player's optimizer."""
        gradient, opt_state = self.clipped(gradient), dict(opt_state)
        for player in update.players:
            before = leaves_of(trainable, self.player_of, (player,)), opt_state[player]
            player_gradient = leaves_of(gradient, self.player_of, (player,))
            after = self.apply_optimizer(player, *before, player_gradient, step, rates)
            if player in update.needs:
                present = jnp.asarray(sum(counts[name] for name in update.needs[player])) > 0
                after = _where(present, after, before)
            trainable, opt_state[player] = merge(after[0], trainable), after[1]
        return trainable, opt_state

    def apply_optimizer(
        self, player: str, params: Any, moments: Any, gradient: Any, step: jax.Array, rates: Any
    ) -> tuple[Any, Any]:
        """A player's parameters and optimizer state after its optimizer's update."""
        optimizer = optax.with_extra_args_support(self.optimizers[player])
        updates, moments = optimizer.update(gradient, moments, params, step=step, rates=rates)
        return optax.apply_updates(params, updates), moments


def _where(condition: jax.Array, new: Any, old: Any) -> Any:
    """`new` if the condition holds, else `old`, leaf by leaf; a leaf that is the same array in both is left alone."""
    return jax.tree.map(lambda new, old: new if new is old else jnp.where(condition, new, old), new, old)
