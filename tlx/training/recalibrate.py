"""Batch norm's statistics for averaged parameters, computed anew from training batches: those of the training
parameters do not fit the average of them (Izmailov et al. 2018, "Averaging Weights Leads to Wider Optima and Better
Generalization", section 3)."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from tlx.methods.api import Batch, Carried, Context, Method
from tlx.models.forward import ModelState
from tlx.params.paths import map_with_path
from tlx.training.gradient import to_microbatches
from tlx.training.state import State


@struct.dataclass
class Recalibrated:
    """model_state: with the mean of the statistics over the batches so far. rows: how many examples these held."""

    model_state: ModelState
    rows: jax.Array


@dataclasses.dataclass(frozen=True)
class Recalibration:
    """`(state, batches from the first on) -> state` with the model state of its average.

    Attributes:
      add: `(so far, params, method_state, step, batch, key, constants) -> so far` (see `make_add`); compiled, its last
        two arguments are given.
      batches: how many of them are read.
    """

    add: Callable[..., Recalibrated]
    batches: int

    def __call__(self, state: State, batches: Iterator[Any]) -> State:
        """Statistics that no average changes (a frozen part's) are those of training."""
        averaged = state.with_eval_params()
        so_far = Recalibrated(state.model_state, jnp.zeros((), jnp.int32))
        for step, batch in enumerate(itertools.islice(batches, self.batches)):
            so_far = self.add(so_far, averaged.params, averaged.method_state, jnp.asarray(step, jnp.int32), batch)
        return dataclasses.replace(state, averaged_model_state=so_far.model_state)


def make_add(
    method: Method, *, accumulate: int = 1, total_steps: int = 0, frozen: tuple[str, ...] = ()
) -> Callable[..., Recalibrated]:
    """A pure function that adds one batch to the means, to be jitted. The arguments are those of `make_train_step`.

    The forward passes are those of the training step `step`, with its random numbers and micro-batches. The statistics
    of a `BatchNorm` are the means of each batch's mean and variance, weighted by its examples that are `valid`, as in
    the paper's code: no momentum enters. Any other collection is updated as the module does it.
    """

    def add(
        so_far: Recalibrated, params: Any, method_state: Any, step: jax.Array, batch: Batch, key: jax.Array,
        constants: Any = None,
    ) -> Recalibrated:  # fmt: skip
        at_step = jax.random.fold_in(key, step)
        progress = (step / total_steps).astype(jnp.float32) if total_steps else jnp.zeros((), jnp.float32)

        def add_part(so_far: Recalibrated, given: tuple[Batch, jax.Array]) -> tuple[Recalibrated, None]:
            batch, part = given
            carried, statistics = Carried(method_state, so_far.model_state), _BatchStatistics()
            with nn.intercept_methods(statistics):
                for index, update in enumerate(method.updates):
                    own = jax.random.fold_in(at_step, index)
                    own = own if accumulate == 1 else jax.random.fold_in(own, part)
                    context = Context(own, step, progress, constants, frozen=frozen)
                    _, carried = update.losses(params, batch, carried, context)
            rows = sum((stream["valid"].sum(dtype=jnp.int32) for stream in batch.values()), jnp.zeros((), jnp.int32))
            total = so_far.rows + rows

            def mean(path: str, old: jax.Array, new: jax.Array) -> jax.Array:
                if path in statistics.calls:
                    new = old + (new - old) * (rows.astype(new.dtype) / total)
                return jnp.where(rows > 0, new, old)

            return Recalibrated(map_with_path(mean, so_far.model_state, dict(carried.model)), total), None

        parts = (to_microbatches(batch, accumulate), jnp.arange(accumulate))
        return jax.lax.scan(add_part, so_far, parts)[0]

    return add


class _BatchStatistics:
    """An interceptor under which a `BatchNorm` leaves a batch's own statistics, whatever its momentum; of several calls
    in a pass the mean. calls: of each statistic, by its path in the model state."""

    def __init__(self) -> None:
        self.calls: dict[str, int] = {}

    def __call__(self, run: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        norm = context.module
        if not (isinstance(norm, nn.BatchNorm) and context.method_name == "__call__"):
            return run(*args, **kwargs)
        if norm.momentum != 0.0:  # the same layer in the same place; this interceptor sees it again
            return norm.clone(parent=norm.scope, momentum=0.0)(*args, **kwargs)
        before = dict(norm.variables["batch_stats"]) if norm.has_variable("batch_stats", "mean") else {}
        output = run(*args, **kwargs)
        for name, old in before.items():
            new: Any = norm.get_variable("batch_stats", name)
            if new is old:  # it ran with its running statistics
                continue
            path = "/".join(("batch_stats", *norm.path, name))
            count = self.calls[path] = self.calls.get(path, 0) + 1
            if count > 1:
                norm.put_variable("batch_stats", name, old + (new - old) / count)
        return output
