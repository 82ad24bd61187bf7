"""A model's answers to a whole set: one per example, in the set's order, for any batch size and device count."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from tlx.data.examples import Batches
from tlx.models.model import Model
from tlx.parallel.layout import Layout

INPUT_FIELDS = ("input_ids", "attention_mask", "token_type_ids", "pixel_values", "hidden_state", "pooled")
Prepare = Callable[[Mapping[str, jax.Array], None], tuple[dict[str, Any], Any]]
Forward = Callable[[Any, Mapping[str, jax.Array]], dict[str, jax.Array]]


def make_forward(model: Model, prepare: Prepare) -> Forward:
    """A jitted `(params, batch) -> {head: answers}` without dropout. prepare: from a batch to the model's inputs."""

    @jax.jit
    def forward(params: Any, batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        output: Any = model.apply({"params": params}, **prepare(batch, None)[0])
        return output.logits

    return forward


def predict(forward: Forward, params: Any, batches: Batches, layout: Layout | None = None) -> dict[str, np.ndarray]:
    """Answers by head in the order of the examples, padding dropped: (examples, outputs), or of a head that answers
    every token (words, outputs): one for each word, from its first token, sentence after sentence; NaN for a word that
    cannot be predicted (`Words.predictable`). layout: of params and batches; None: of one device."""
    examples = batches.examples
    predictions: dict[str, np.ndarray] = {}
    for step in range(len(batches)):
        rows, batch = batches.rows(step), batches[step]
        inputs = {name: batch[name] for name in INPUT_FIELDS if name in batch}
        if layout is None:
            found = jax.device_get(forward(params, jax.device_put(inputs)))
        else:
            found = layout.gather(forward(params, layout.put_batch(inputs)))
        for head, values in found.items():
            per_token = values.ndim == 3
            size = int(examples.offsets[-1]) if per_token else len(examples)
            into = predictions.setdefault(head, np.zeros((size, values.shape[-1]), values.dtype))
            if not per_token:
                into[rows[rows >= 0]] = values[rows >= 0]
            for i in np.flatnonzero(rows >= 0) if per_token else ():
                start, stop = examples.offsets[rows[i]], examples.offsets[rows[i] + 1]
                into[start:stop] = values[i, : stop - start]
    if examples.words is None:
        return predictions
    return {head: examples.words.spread(values) for head, values in predictions.items()}
