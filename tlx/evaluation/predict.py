"""A model's answers to a whole set: one per example, in the set's order, for any batch size and device count."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding

from tlx.data.examples import ExampleSet
from tlx.data.plan import LENGTH_BUCKETS
from tlx.features.whole_set import in_batches, map_batches, store
from tlx.models.model import Model

Prepare = Callable[[Mapping[str, jax.Array], None], tuple[dict[str, Any], Any]]
Forward = Callable[[Any, Mapping[str, jax.Array]], dict[str, jax.Array]]


def make_forward(model: Model, prepare: Prepare) -> Forward:
    """A jitted `(params, batch) -> {head: answers}` without dropout. prepare: from a batch to the model's inputs."""

    @jax.jit
    def forward(params: Any, batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        output: Any = model.apply({"params": params}, **prepare(batch, None)[0])
        return output.logits

    return forward


def predict(
    forward: Forward,
    params: Any,
    examples: ExampleSet,
    batch_size: int,
    length_buckets: Sequence[int] = LENGTH_BUCKETS,
    sharding: NamedSharding | None = None,
) -> dict[str, np.ndarray]:
    """Answers by head in the order of the examples, padding dropped: (examples, outputs), or of a head that answers
    every token (words, outputs): one for each word, from its first token, sentence after sentence; NaN for a word that
    cannot be predicted (`Words.predictable`).

    Args:
      forward: as `make_forward` gives it.
      params: of the model.
      examples: all of them are answered.
      batch_size: examples a pass.
      ladder: lengths to which texts are padded.
      sharding: of a batch; its devices share it.
    """
    predictions: dict[str, np.ndarray] = {}
    for rows, found in map_batches(
        forward, params, in_batches(examples, batch_size, length_buckets, sharding), sharding
    ):
        for head, values in found.items():
            offsets = examples.offsets if values.ndim == 3 else None
            if head not in predictions:
                size = len(examples) if offsets is None else int(offsets[-1])
                predictions[head] = np.zeros((size, values.shape[-1]), values.dtype)
            store(predictions[head], offsets, rows, values)
    if examples.words is None:
        return predictions
    return {head: examples.words.spread(values) for head, values in predictions.items()}
