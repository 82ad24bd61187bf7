"""A model's answers to a whole set: one per example, in the set's order, for any batch size and device count."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding

from tlx.data.examples import Batches
from tlx.models.model import Model

Forward = Callable[[Any, Mapping[str, jax.Array]], dict[str, jax.Array]]


def make_forward(model: Model, inputs: tuple[str, ...]) -> Forward:
    """A jitted `(params, batch) -> {head: answers}` without dropout. inputs: the fields that the model takes."""

    @jax.jit
    def forward(params: Any, batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        taken: dict[str, Any] = {name: batch[name] for name in inputs if name in batch}
        output: Any = model.apply({"params": params}, **taken)
        return output.logits

    return forward


def predict(
    forward: Forward, params: Any, batches: Batches, sharding: NamedSharding | None = None
) -> dict[str, np.ndarray]:
    """Answers by head, (examples, outputs), in the order of the examples. Padding rows are dropped."""
    answers: dict[str, np.ndarray] = {}
    for step in range(len(batches)):
        rows = batches.rows(step)
        batch = batches[step]
        inputs = {name: value for name, value in batch.items() if name not in ("example_id", "valid")}
        found = jax.device_get(forward(params, jax.device_put(inputs, sharding)))
        for head, values in found.items():
            into = answers.setdefault(head, np.zeros((len(batches.examples), *values.shape[1:]), values.dtype))
            into[rows[rows >= 0]] = values[rows >= 0]
    return answers
