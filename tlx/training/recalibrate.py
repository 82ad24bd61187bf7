"""Computes batch norm's statistics for averaged parameters from training batches.

The statistics that were collected in training do not fit the averaged parameters (Izmailov et al. 2018, "Averaging
Weights Leads to Wider Optima and Better Generalization", section 3).
"""

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
    """The running result of the computation.

    Attributes:
      model_state: the model state, with batch norm's statistics averaged over the batches that were read.
      rows: int32 (), number of examples in these batches.
    """

    model_state: ModelState
    rows: jax.Array


@dataclasses.dataclass(frozen=True)
class Recalibration:
    """Computes the model state of the average: `(state, batches from the first step on) -> state`.

    Attributes:
      add: the function of `make_add`. When it is called here, it must be jitted and have key and constants bound.
      batches: number of batches to read.
    """

    add: Callable[..., Recalibrated]
    batches: int

    def __call__(self, state: State, batches: Iterator[Any]) -> State:
        """Returns the state with the average's model state. Statistics of frozen parts are those of training."""
        averaged = state.with_eval_params()
        result = Recalibrated(state.model_state, jnp.zeros((), jnp.int32))
        for step, batch in enumerate(itertools.islice(batches, self.batches)):
            result = self.add(result, averaged.params, averaged.method_state, jnp.asarray(step, jnp.int32), batch)
        return dataclasses.replace(state, averaged_model_state=result.model_state)


def make_add(
    method: Method, *, accumulate: int = 1, total_steps: int = 0, frozen: tuple[str, ...] = ()
) -> Callable[..., Recalibrated]:
    """Makes a pure function that adds one batch to a `Recalibrated`, to be jitted.

    The function is `(recalibrated, params, method_state, step, batch, key, constants=None) -> recalibrated`. It runs
    the forward passes of the training step `step`, with the same random numbers and micro-batches. The statistics of a
    `BatchNorm` become the means of the batches' means and variances, weighted by the number of `valid` examples, as in
    the paper's code; momentum is not used. Other collections are updated as the module does.

    Args:
      method: the method, whose losses are computed for their forward passes.
      accumulate: number of micro-batches of a batch.
      total_steps: number of steps of the run, for `Context.progress`.
      frozen: path prefixes of frozen parts, as in `make_train_step`.
    """

    def add(
        previous: Recalibrated, params: Any, method_state: Any, step: jax.Array, batch: Batch, key: jax.Array,
        constants: Any = None,
    ) -> Recalibrated:  # fmt: skip
        at_step = jax.random.fold_in(key, step)
        progress = (step / total_steps).astype(jnp.float32) if total_steps else jnp.zeros((), jnp.float32)

        def add_part(previous: Recalibrated, microbatch: tuple[Batch, jax.Array]) -> tuple[Recalibrated, None]:
            batch, part = microbatch
            carried, statistics = Carried(method_state, previous.model_state), _BatchStatistics()
            with nn.intercept_methods(statistics):
                for index, update in enumerate(method.updates):
                    update_key = jax.random.fold_in(at_step, index)
                    update_key = update_key if accumulate == 1 else jax.random.fold_in(update_key, part)
                    context = Context(update_key, step, progress, constants, frozen=frozen)
                    _, carried = update.losses(params, batch, carried, context)
            rows = sum((stream["valid"].sum(dtype=jnp.int32) for stream in batch.values()), jnp.zeros((), jnp.int32))
            total = previous.rows + rows

            def mean(path: str, old: jax.Array, new: jax.Array) -> jax.Array:
                if path in statistics.calls:
                    new = old + (new - old) * (rows.astype(new.dtype) / total)
                return jnp.where(rows > 0, new, old)

            return Recalibrated(map_with_path(mean, previous.model_state, dict(carried.model)), total), None

        parts = (to_microbatches(batch, accumulate), jnp.arange(accumulate))
        return jax.lax.scan(add_part, previous, parts)[0]

    return add


class _BatchStatistics:
    """An interceptor that makes each `BatchNorm` store the statistics of the current batch, regardless of momentum.

    If a layer is called several times in a forward pass, the mean over the calls is stored.

    Attributes:
      calls: number of calls for each statistic, by its path in the model state.
    """

    def __init__(self) -> None:
        self.calls: dict[str, int] = {}

    def __call__(self, run: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        norm = context.module
        if not (isinstance(norm, nn.BatchNorm) and context.method_name == "__call__"):
            return run(*args, **kwargs)
        if norm.momentum != 0.0:  # call the same layer without momentum; that call is intercepted too
            return norm.clone(parent=norm.scope, momentum=0.0)(*args, **kwargs)
        before = dict(norm.variables["batch_stats"]) if norm.has_variable("batch_stats", "mean") else {}
        output = run(*args, **kwargs)
        for name, old in before.items():
            new: Any = norm.get_variable("batch_stats", name)
            if new is old:  # the layer used its running statistics and did not update them
                continue
            path = "/".join(("batch_stats", *norm.path, name))
            count = self.calls[path] = self.calls.get(path, 0) + 1
            if count > 1:
                norm.put_variable("batch_stats", name, old + (new - old) / count)
        return output
