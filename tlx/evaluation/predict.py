"""A model's predictions for a whole set, in the order of the set, for any batch size and number of devices."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tlx.data.batches import Batches
from tlx.data.examples import ExampleSet
from tlx.data.packing import PackedShape
from tlx.data.tokens import ASKED, MASKABLE
from tlx.evaluation.masked import COLUMNS, spread, token_scores
from tlx.features.whole_set import in_batches, inputs_of, map_batches, store
from tlx.modalities.api import Inputs, Prepare
from tlx.models.forward import ModelState, Variables
from tlx.models.forward import forward as run
from tlx.models.model import Model, read_by_head
from tlx.parallel.layout import Layout

Forward = Callable[[Any, ModelState, Mapping[str, jax.Array]], dict[str, jax.Array]]


def make_forward(model: Model, prepare: Prepare, features_of: str | None = None) -> Forward:
    """Returns a jitted function `(params, model_state, batch) -> {head: logits}` that runs without dropout.

    For heads of the kind `masked_lm` it returns the scores of tokens (`tlx.evaluation.masked`) instead of logits.

    Args:
      model: the model.
      prepare: computes the model's inputs from a batch.
      features_of: name of a head of whole texts or images; what it reads is returned too, under `features_name`.
    """

    masked = [name for name, head in model.heads_by_name if head.kind == "masked_lm"]

    @jax.jit
    def forward(params: Any, model_state: ModelState, batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        inputs, rows = prepare(batch, None)
        if masked and "read_at" not in inputs and ASKED not in rows:  # rows of another task
            inputs = {**inputs, "read_at": jnp.zeros((len(inputs["input_ids"]), 1), jnp.int32)}
        output, _ = run(model, params, model_state, inputs)
        logits: dict[str, jax.Array] = output.logits
        logits |= {name: _scores(logits[name], inputs, rows) for name in masked}
        if features_of is None:
            return logits
        return {**logits, features_name(features_of): read_by_head(model, features_of, output, inputs)}

    return forward


def _scores(logits: jax.Array, inputs: Mapping[str, Any], rows: Mapping[str, jax.Array]) -> jax.Array:
    """The scores of all tokens, (rows, length, 4), from the logits of those that were read."""
    if "read_at" not in inputs:
        return token_scores(logits)
    read_at, length = inputs["read_at"], inputs["input_ids"].shape[1]
    if MASKABLE not in rows:
        return jnp.zeros((len(read_at), length, COLUMNS))
    return spread(token_scores(logits, rows["label"], rows["label_mask"]), read_at, length)


def features_name(head: str) -> str:
    """Returns the name under which `make_forward` returns what a head reads. No head has such a name."""
    return f"{head}/features"


def predict(
    forward: Forward,
    variables: Variables,
    examples: ExampleSet,
    inputs: Inputs,
    batch_size: int,
    layout: Layout | None = None,
    shape: PackedShape | None = None,
    length_buckets: Sequence[int] | None = None,
) -> dict[str, np.ndarray]:
    """Computes the predictions of every head, in the order of the examples and without padding.

    Args:
      forward: the function returned by `make_forward`.
      variables: the variables of the model.
      examples: the examples.
      inputs: the inputs that the model reads from a batch.
      batch_size: the number of examples in a forward pass.
      layout: the layout of variables and batches over devices; None for one device.
      shape: the shape of packed batches, whose rows must be as long as the longest text; None: texts are not packed.
      length_buckets: the lengths to which texts are padded that are not packed; None: those of `inputs`.

    Returns:
      {head: (examples, outputs)}, and the features that `forward` returns, (examples, hidden). For a head that predicts
      every token, (words, outputs), all sentences one after the other: each word has the prediction of its first token,
      and NaN if it cannot be predicted (`Words.predictable`). For a head of masked language modelling, (tokens, 4).
    """
    predictions: dict[str, np.ndarray] = {}
    by_token = set()
    batches = _batches(examples, inputs, batch_size, layout, shape, length_buckets)
    for rows, outputs in map_batches(forward, variables, batches, inputs.fields, layout):
        for head, values in outputs.items():
            offsets = examples.offsets if values.ndim == 3 else None
            if offsets is not None:
                by_token.add(head)
            if head not in predictions:
                size = len(examples) if offsets is None else int(offsets[-1])
                predictions[head] = np.zeros((size, values.shape[-1]), values.dtype)
            store(predictions[head], offsets, rows, values)
    if examples.words is None:
        return predictions
    words = examples.words
    return {head: words.spread(found) if head in by_token else found for head, found in predictions.items()}


def compile_ahead(
    forward: Any,
    variables: Variables,
    examples: ExampleSet,
    inputs: Inputs,
    batch_size: int,
    layout: Layout,
    shape: PackedShape | None = None,
    length_buckets: Sequence[int] | None = None,
) -> None:
    """Compiles what `predict` with the same arguments will run; `variables` may be shapes. Nothing is computed."""
    batches = _batches(examples, inputs, batch_size, layout, shape, length_buckets)
    by_length = {batches.length(step): step for step in range(len(batches))}  # batches of one length have one shape
    for step in by_length.values():
        shapes = {
            name: jax.ShapeDtypeStruct(rows.shape, jax.dtypes.canonicalize_dtype(rows.dtype), sharding=layout.batch)
            for name, rows in inputs_of(batches[step], inputs.fields).items()
        }
        forward.lower(variables.params, variables.model_state, shapes).compile()


def _batches(
    examples: ExampleSet, inputs: Inputs, batch_size: int, layout: Layout | None, shape: PackedShape | None,
    length_buckets: Sequence[int] | None,
) -> Batches:  # fmt: skip
    buckets = inputs.length_buckets if length_buckets is None else length_buckets
    return in_batches(examples, batch_size, buckets, layout, shape)
