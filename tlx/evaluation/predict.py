"""A model's answers to a whole set: one per example, in the set's order, for any batch size and device count."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from tlx.data.examples import ExampleSet
from tlx.features.whole_set import in_batches, map_batches, store
from tlx.modalities.api import Inputs, Prepare
from tlx.models.forward import ModelState, Variables
from tlx.models.forward import forward as run
from tlx.models.model import Model
from tlx.parallel.layout import Layout

Forward = Callable[[Any, ModelState, Mapping[str, jax.Array]], dict[str, jax.Array]]


def make_forward(model: Model, prepare: Prepare) -> Forward:
    """A jitted `(params, model_state, batch) -> {head: answers}` without dropout. prepare: from a batch to the model's
    inputs."""

    @jax.jit
    def forward(params: Any, model_state: ModelState, batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        output, _ = run(model, params, model_state, prepare(batch, None)[0])
        logits: dict[str, jax.Array] = output.logits
        return logits

    return forward


def predict(
    forward: Forward,
    variables: Variables,
    examples: ExampleSet,
    inputs: Inputs,
    batch_size: int,
    layout: Layout | None = None,
) -> dict[str, np.ndarray]:
    """Predictions by head in the order of the examples, padding dropped.

    Args:
      forward: as `make_forward` gives it.
      variables: of the model.
      examples: all of them are predicted.
      inputs: what of a batch the model takes.
      batch_size: examples a pass.
      layout: of variables and batches; None: one device.

    Returns:
      (examples, outputs), or of a head that predicts every token (words, outputs): one for each word, from its first
      token, sentence after sentence; NaN for a word that cannot be predicted (`Words.predictable`).
    """
    predictions: dict[str, np.ndarray] = {}
    batches = in_batches(examples, batch_size, inputs.length_buckets, layout)
    for rows, found in map_batches(forward, variables, batches, inputs.fields, layout):
        for head, values in found.items():
            offsets = examples.offsets if values.ndim == 3 else None
            if head not in predictions:
                size = len(examples) if offsets is None else int(offsets[-1])
                predictions[head] = np.zeros((size, values.shape[-1]), values.dtype)
            store(predictions[head], offsets, rows, values)
    if examples.words is None:
        return predictions
    return {head: examples.words.spread(values) for head, values in predictions.items()}
