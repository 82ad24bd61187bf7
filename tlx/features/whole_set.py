"""A compiled function over a whole set of examples, batch by batch: answers and features are computed by it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from tlx.data.examples import Batches, ExampleSet
from tlx.data.plan import LENGTH_BUCKETS, EvaluationPlan
from tlx.models.forward import ModelState, Variables
from tlx.parallel.layout import Layout


def in_batches(
    examples: ExampleSet,
    batch_size: int,
    length_buckets: Sequence[int] = LENGTH_BUCKETS,
    layout: Layout | None = None,
) -> Batches:
    """Every example once.

    Args:
      examples: of the set.
      batch_size: examples a batch.
      length_buckets: lengths to which texts are padded.
      layout: of a batch, whose devices share it; None: one device.
    """
    plan = EvaluationPlan(examples.lengths, batch_size, length_buckets)
    if layout is None:
        return Batches(examples, plan, plan.steps_per_epoch)
    return Batches(examples, plan, plan.steps_per_epoch, layout.size, layout.rows)


def inputs_of(batch: Mapping[str, np.ndarray], fields: Sequence[str]) -> dict[str, np.ndarray]:
    """The fields of a batch that a model reads; labels and ids stay on the host."""
    return {name: batch[name] for name in fields if name in batch}


def map_batches(
    function: Callable[[Any, ModelState, Any], Any],
    variables: Variables,
    batches: Batches,
    fields: Sequence[str],
    layout: Layout | None = None,
) -> Iterator[tuple[np.ndarray, Any]]:
    """`function(params, model_state, inputs)` of every batch.

    The next batch is computed while the caller works on the last; so the outputs of two are in memory.

    Args:
      function: compiled.
      variables: its first two arguments.
      batches: of a whole set.
      fields: of a batch, those that the function reads.
      layout: of variables and batches; None: one device.

    Yields:
      int64 (batch,), the position in the set of each row, -1 for padding; and the outputs, as NumPy arrays.
    """
    pending: list[tuple[np.ndarray, Any]] = []
    for step in range(len(batches)):
        inputs = inputs_of(batches[step], fields)
        inputs = jax.device_put(inputs) if layout is None else layout.put_batch(inputs)
        pending.append((batches.rows(step), function(variables.params, variables.model_state, inputs)))
        if len(pending) > 1:
            yield _fetched(layout, *pending.pop(0))
    yield from (_fetched(layout, *left) for left in pending)


def _fetched(layout: Layout | None, rows: np.ndarray, outputs: Any) -> tuple[np.ndarray, Any]:
    return rows, jax.device_get(outputs) if layout is None else layout.gather(outputs)


def store(values: np.ndarray, offsets: np.ndarray | None, rows: np.ndarray, output: np.ndarray) -> None:
    """Writes a batch's outputs to the places of their examples, without padding.

    Args:
      values: of the whole set, (examples, …) or, of outputs for each token, (tokens, …), all examples end to end.
      offsets: integers (examples + 1,), where each example begins among the tokens; None: there is one output for each.
      rows: the position in the set of each row, -1 for padding.
      output: (batch, …) or (batch, padded length, …).
    """
    if offsets is None:
        values[rows[rows >= 0]] = output[rows >= 0]
        return
    for i in np.flatnonzero(rows >= 0):
        start, stop = offsets[rows[i]], offsets[rows[i] + 1]
        values[start:stop] = output[i, : stop - start]
