"""Inputs for training on cached features, which were computed once from inputs of any modality."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax

from tlx.modalities.api import Fields, Prepare
from tlx.modalities.packed import by_text
from tlx.models.heads import Head
from tlx.models.model import Model


@dataclasses.dataclass(frozen=True)
class CachedInputs:
    """See `Inputs`.

    Attributes:
      start: the first block that is applied to `hidden_state`; None if the batch holds `pooled` features and no block
        is applied.
      length_buckets: the length buckets of the inputs from which the features were computed.
    """

    start: int | None
    length_buckets: tuple[int, ...]

    @property
    def field(self) -> str:
        """The name of the features in a batch."""
        return "pooled" if self.start is None else "hidden_state"

    @property
    def fields(self) -> tuple[str, ...]:
        return (self.field,) if self.start is None else (self.field, "attention_mask", "segment_ids", "text_starts")

    def prepare(self, rows: Fields, key: jax.Array | None) -> tuple[dict[str, Any], Fields]:
        del key
        inputs: dict[str, Any] = {name: rows[name] for name in self.fields if name in rows}
        if inputs[self.field].ndim == 4:  # (rows, texts, vectors, hidden): one or two vectors of each packed text
            inputs[self.field] = inputs[self.field].reshape(-1, *inputs[self.field].shape[2:])
        return (inputs if self.start is None else {**inputs, "start": self.start}), by_text(rows)

    def training(self, head: Head) -> Prepare:
        del head
        return self.prepare

    def tokens(self, model: Model, batch: Mapping[str, Any]) -> int:
        del model
        return int(batch[self.field].shape[1])
