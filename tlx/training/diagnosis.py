"""Runs a step's forward and backward passes again, and measures activations, gradients, parameters and the batch."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from tlx.methods.api import Batch, Carried, Context, Update
from tlx.params.paths import flatten
from tlx.training.gradient import to_microbatches
from tlx.training.state import State
from tlx.training.step import Rates, TrainStep


def make_diagnosis(step: TrainStep) -> Callable[..., dict[str, Any]]:
    """Makes a pure function with the arguments of a training step that measures it, to be jitted.

    An array is measured by `largest`, the largest absolute value of its finite entries, float32 (), and `not_finite`,
    the number of the others, int32 ().

    The function returns a dict with these keys:

    - `batch`: the size of each field `STREAM/FIELD` of floats.
    - `parameters`: the size of each parameter, by path.
    - `updates`: for each update, its `losses`, its `gradient_norm`, the sizes of its `gradients` by path before
      clipping, and those of its `activations`, which are the outputs of linen modules. Their keys are a number in
      the order of computation, a space, and the module's path. Of a repeated update this is the first time.
    """

    def diagnose(
        state: State, batch: Batch, key: jax.Array, constants: Any = None, rates: Rates | None = None
    ) -> dict[str, Any]:
        state = dataclasses.replace(state, skipped_in_a_row=jnp.zeros_like(state.skipped_in_a_row))
        fields = {f"{stream}/{name}": field for stream, rows in batch.items() for name, field in rows.items()}
        found: dict[str, Any] = {"batch": _sizes(fields), "parameters": _sizes(flatten(state.params)), "updates": {}}
        now = step.rates_now(state, rates)
        for update, context in step.contexts(state, key, constants, rates):
            first = context
            if update.repeat > 1:
                first = dataclasses.replace(context, key=jax.random.fold_in(context.key, 0))
            result = step.gradient(update, state, batch, first)
            found["updates"][update.name or "update"] = {
                "losses": result.losses,
                "gradient_norm": optax.global_norm(result.gradient),
                "gradients": _sizes({path: g for path, g in flatten(result.gradient).items() if g is not None}),
                "activations": _activations(update, state, to_microbatches(batch, step.accumulate), first),
            }
            state, _ = step.repeated(update, state, batch, context, now)
        return found

    return diagnose


def _activations(update: Update, state: State, parts: Batch, context: Context) -> dict[str, Any]:
    """The sizes of the outputs of all modules over all micro-batches."""

    def of_part(microbatch: tuple[Batch, jax.Array]) -> dict[str, Any]:
        batch, key = microbatch
        recorded = _Recorded()
        with nn.intercept_methods(recorded):
            carried = Carried(state.method_state, state.model_state)
            update.losses(state.params, batch, carried, dataclasses.replace(context, key=key))
        return recorded.sizes

    count = jax.tree.leaves(parts)[0].shape[0]
    if count == 1:
        return of_part((jax.tree.map(lambda rows: rows[0], parts), context.key))
    keys = jax.vmap(lambda part: jax.random.fold_in(context.key, part))(jnp.arange(count))
    by_part = jax.lax.map(of_part, (parts, keys))
    return {
        name: {"largest": size["largest"].max(), "not_finite": size["not_finite"].sum()}
        for name, size in by_part.items()
    }


class _Recorded:
    """An interceptor that measures the outputs of all modules, in the order of computation."""

    def __init__(self) -> None:
        self.sizes: dict[str, Any] = {}

    def __call__(self, run: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        output = run(*args, **kwargs)
        if context.method_name == "__call__":
            path = "/".join(context.module.path) or type(context.module).__name__
            leaves = [leaf for leaf in jax.tree.leaves(output) if _measured(leaf)]
            for index, leaf in enumerate(leaves):
                name = path if len(leaves) == 1 else f"{path}[{index}]"
                self.sizes[f"{len(self.sizes):05} {name}"] = _size(leaf)
        return output


def _sizes(arrays: dict[str, Any]) -> dict[str, Any]:
    return {name: _size(array) for name, array in arrays.items() if _measured(array)}


def _measured(array: Any) -> bool:
    return isinstance(array, jax.Array) and jnp.issubdtype(array.dtype, jnp.floating) and array.size > 0


def _size(array: jax.Array) -> dict[str, jax.Array]:
    finite = jnp.isfinite(array)
    largest = jnp.where(finite, jnp.abs(array), 0).max().astype(jnp.float32)
    return {"largest": largest, "not_finite": jnp.sum(~finite, dtype=jnp.int32)}
