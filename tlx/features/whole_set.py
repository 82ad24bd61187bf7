"""Applies a compiled function to a whole set of examples, batch by batch; predictions and features are computed so."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from tlx.data.batches import Batches
from tlx.data.examples import ExampleSet
from tlx.data.packing import PackedShape
from tlx.data.places import Places
from tlx.data.plan import LENGTH_BUCKETS, EvaluationPlan
from tlx.models.forward import ModelState, Variables
from tlx.parallel.layout import Layout


def in_batches(
    examples: ExampleSet,
    batch_size: int,
    length_buckets: Sequence[int] = LENGTH_BUCKETS,
    layout: Layout | None = None,
    shape: PackedShape | None = None,
) -> Batches:
    """Returns batches that contain every example once.

    Args:
      examples: the set.
      batch_size: the number of examples in a batch.
      length_buckets: the lengths to which texts are padded.
      layout: the layout of batches over devices; None for one device.
      shape: the shape of packed batches, which then decides their size; None: texts are not packed.
    """
    plan = EvaluationPlan(examples.lengths, batch_size, length_buckets, shape)
    if layout is None:
        return Batches(examples, plan, plan.steps_per_epoch)
    return Batches(examples, plan, plan.steps_per_epoch, layout.size, layout.rows)


def inputs_of(batch: Mapping[str, np.ndarray], fields: Sequence[str]) -> dict[str, np.ndarray]:
    """Returns the fields of a batch that a model reads; the others, such as labels and ids, stay on the host."""
    return {name: batch[name] for name in fields if name in batch}


def map_batches(
    function: Callable[[Any, ModelState, Any], Any],
    variables: Variables,
    batches: Batches,
    fields: Sequence[str],
    layout: Layout | None = None,
) -> Iterator[tuple[np.ndarray, Any]]:
    """Applies `function(params, model_state, inputs)` to every batch.

    The next batch is computed while the caller processes the current one, so the outputs of two batches are in memory.

    Args:
      function: the compiled function.
      variables: its first two arguments.
      batches: the batches of a set.
      fields: the fields of a batch that the function reads.
      layout: the layout of variables and batches over devices; None for one device.

    Yields:
      The position in the set of each row, int64 (batch,), or of the texts in each row, (batch, texts), -1 for padding;
      and the outputs, as NumPy arrays.
    """
    pending: list[tuple[np.ndarray, Any]] = []
    for step in range(len(batches)):
        inputs = inputs_of(batches[step], fields)
        inputs = jax.device_put(inputs) if layout is None else layout.put_batch(inputs)
        pending.append((batches.rows(step), function(variables.params, variables.model_state, inputs)))
        if len(pending) > 1:
            yield _fetched(layout, *pending.pop(0))
    yield from (_fetched(layout, *batch) for batch in pending)


def _fetched(layout: Layout | None, rows: np.ndarray, outputs: Any) -> tuple[np.ndarray, Any]:
    return rows, jax.device_get(outputs) if layout is None else layout.gather(outputs)


def store(values: np.ndarray, offsets: np.ndarray | None, rows: np.ndarray, output: np.ndarray) -> None:
    """Writes the outputs of a batch into the array of the whole set, without padding.

    Args:
      values: the array of the whole set: (examples, …), or for outputs of every token (tokens, …), the tokens of all
        examples one after the other.
      offsets: integers (examples + 1,), where each example's tokens begin; None if there is one output for an example.
      rows: the position in the set of each row, (batch,), or of the texts in each row, (batch, texts); -1 for padding.
      output: the outputs of the batch, (batch, …) or (batch · texts, …), or of its tokens (batch, padded length, …).
    """
    if offsets is None:
        flat = rows.ravel()
        values[flat[flat >= 0]] = output[flat >= 0]
        return
    places = Places.of(offsets, rows, output.shape[1])
    values[places.source] = output.reshape(-1, *output.shape[2:])[places.target]
