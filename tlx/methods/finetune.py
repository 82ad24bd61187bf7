"""Fine-tuning: one stream, one player, one update; every head against its own labels."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from tlx.losses.supervised import cross_entropy, squared_error
from tlx.methods.api import Batch, Losses, Update
from tlx.models.heads import Head
from tlx.models.model import Model

INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def head_loss(head: Head) -> Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
    """What a head is trained by: cross entropy, or the squared error in units of the targets' spread."""
    if head.kind == "classification":
        return cross_entropy
    scale = jnp.asarray(head.scale or (1.0,) * head.outputs)
    return lambda predictions, targets, weight: squared_error(predictions / scale, targets / scale, weight)


class FineTune:
    """The method that `experiments/finetune.py` runs.

    Args:
      model: a backbone with heads.
      labels: the field of the batch that each head answers.
      frozen: path prefixes of blocks that run without dropout, because nothing in them learns.
    """

    streams: tuple[str, ...] = ("train",)
    players: Mapping[str, Any] = {"model": ((".*", True),)}

    def __init__(self, model: Model, labels: Mapping[str, str], frozen: tuple[str, ...] = ()):
        self.model, self.labels, self.frozen = model, dict(labels), frozen
        self.heads = dict(model.heads_by_name)
        self.updates: tuple[Update, ...] = (Update(self.losses, ("model",)),)

    def init(self, key: jax.Array) -> tuple[Any, Any]:
        """Nothing to train besides the model, nothing to carry."""
        del key
        return {}, {}

    def losses(self, params: Any, batch: Batch, method_state: Any, key: jax.Array) -> tuple[Losses, Any]:
        """The mean loss of every head over the examples that are `valid`."""
        rows = batch["train"]
        inputs: dict[str, Any] = {name: rows[name] for name in INPUTS if name in rows}
        output: Any = self.model.apply(
            {"params": params}, **inputs, deterministic=False, frozen=self.frozen, rngs={"dropout": key}
        )
        weight = rows["valid"].astype(jnp.float32)
        losses = {
            name: head_loss(self.heads[name])(output.logits[name], rows[field], weight)
            for name, field in self.labels.items()
        }
        return losses, method_state
