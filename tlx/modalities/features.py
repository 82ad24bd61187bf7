"""Inputs whose batches hold features, computed once of inputs of any modality."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax

from tlx.modalities.api import Fields, Prepare
from tlx.models.heads import Head
from tlx.models.model import Model


@dataclasses.dataclass(frozen=True)
class CachedInputs:
    """See `Inputs`.

    Attributes:
      start: the block that runs first on `hidden_state`; None where the batch holds `pooled` and no block runs.
      length_buckets: of what the features were computed from.
    """

    start: int | None
    length_buckets: tuple[int, ...]

    @property
    def field(self) -> str:
        """How a batch calls the features."""
        return "pooled" if self.start is None else "hidden_state"

    @property
    def fields(self) -> tuple[str, ...]:
        return (self.field,) if self.start is None else (self.field, "attention_mask")

    def prepare(self, rows: Fields, key: jax.Array | None) -> tuple[dict[str, Any], Fields]:
        del key
        given: dict[str, Any] = {name: rows[name] for name in self.fields if name in rows}
        return (given if self.start is None else {**given, "start": self.start}), rows

    def training(self, head: Head) -> Prepare:
        del head
        return self.prepare

    def tokens(self, model: Model, batch: Mapping[str, Any]) -> int:
        del model
        return int(batch[self.field].shape[1])
