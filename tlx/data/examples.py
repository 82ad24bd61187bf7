"""Tokenised examples held as flat arrays, and the batches that a plan cuts from them."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from tlx.data.plan import EvaluationPlan, TrainingPlan


class Encoder(Protocol):
    """A tokenizer: texts (and their partners) to token ids and token types, one sequence per text."""

    pad_id: int

    def __call__(
        self, texts: Sequence[str], pairs: Sequence[str] | None = None
    ) -> tuple[list[list[int]], list[list[int]]]:
        """ids and types, each of the text's own length."""


@dataclasses.dataclass(frozen=True)
class Examples:
    """A set of tokenised texts.

    ids, types: int32, all texts end to end. offsets: int64 (n + 1,), where each begins.
    fields: per-example arrays by name, such as `label`, (n, …). example_id: int64 (n,), the row in the source.
    """

    ids: np.ndarray
    types: np.ndarray
    offsets: np.ndarray
    fields: Mapping[str, np.ndarray]
    example_id: np.ndarray
    pad_id: int

    @classmethod
    def encode(
        cls,
        encoder: Encoder,
        texts: Sequence[str],
        pairs: Sequence[str] | None = None,
        fields: Mapping[str, np.ndarray] | None = None,
        example_id: np.ndarray | None = None,
    ) -> "Examples":
        """Tokenises once."""
        ids, types = encoder(texts, pairs)
        offsets = np.concatenate([[0], np.cumsum([len(row) for row in ids])]).astype(np.int64)
        flat = [np.fromiter((t for row in rows for t in row), np.int32, offsets[-1]) for rows in (ids, types)]
        number = np.arange(len(texts), dtype=np.int64) if example_id is None else example_id
        return cls(flat[0], flat[1], offsets, dict(fields or {}), number, encoder.pad_id)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each example."""
        return np.diff(self.offsets)

    def take(self, rows: np.ndarray, length: int) -> dict[str, np.ndarray]:
        """The fields of these rows, texts padded to `length`; a row of -1 is padding and not `valid`."""
        valid = rows >= 0
        safe = np.where(valid, rows, 0)
        ids = np.full((len(rows), length), self.pad_id, np.int32)
        types, mask = np.zeros((len(rows), length), np.int32), np.zeros((len(rows), length), np.int32)
        for i in np.flatnonzero(valid):
            start, stop = self.offsets[rows[i]], self.offsets[rows[i] + 1]
            ids[i, : stop - start], types[i, : stop - start], mask[i, : stop - start] = (
                self.ids[start:stop], self.types[start:stop], 1,
            )  # fmt: skip
        return {
            "input_ids": ids,
            "token_type_ids": types,
            "attention_mask": mask,
            **{name: values[safe] for name, values in self.fields.items()},
            "example_id": np.where(valid, self.example_id[safe], -1),
            "valid": valid,
        }


@dataclasses.dataclass(frozen=True)
class Batches:
    """Random access to batches by step: `batches[step]`, from 0 to `steps - 1`.

    multiple: batches are padded with rows that are not `valid` until this many devices divide them.
    """

    examples: Examples
    plan: TrainingPlan | EvaluationPlan
    steps: int
    multiple: int = 1

    def __len__(self) -> int:
        return self.steps

    def rows(self, step: int) -> np.ndarray:
        """Which example stands in which row; -1 for padding."""
        rows = self.plan.batch(step).rows
        return np.concatenate([rows, np.full(-len(rows) % self.multiple, -1, np.int64)])

    def __getitem__(self, step: int) -> dict[str, np.ndarray]:
        return self.examples.take(self.rows(step), self.plan.batch(step).length)
