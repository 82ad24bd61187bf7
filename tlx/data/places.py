"""Where the tokens of a batch's texts are: in the flat arrays of a set, and in the rows of the batch."""

import dataclasses
from collections.abc import Mapping

import numpy as np


@dataclasses.dataclass(frozen=True)
class Places:
    """The places of all tokens of a batch.

    Attributes:
      source: int64 (tokens,), the position of each token in the flat arrays of the set.
      target: int64 (tokens,), its position in the flattened rows of the batch.
      text: int64 (tokens,), the number of its text in the row, from 0.
      starts: int32 (rows, texts), the position in the row at which each text begins; 0 where there is none.
    """

    source: np.ndarray
    target: np.ndarray
    text: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, offsets: np.ndarray, rows: np.ndarray, length: int) -> "Places":
        """Lays the texts of each row end to end.

        Args:
          offsets: int64 (examples + 1,), where each example's tokens begin in the flat arrays.
          rows: positions in the set, (rows,), or (rows, texts) if texts are packed; -1 for no text.
          length: the number of tokens of a row of the batch.
        """
        texts = rows.reshape(len(rows), -1)
        valid = texts >= 0
        safe = np.where(valid, texts, 0)
        sizes = np.where(valid, offsets[safe + 1] - offsets[safe], 0)
        starts = np.cumsum(sizes, axis=1) - sizes
        flat = sizes.ravel()
        within = np.arange(flat.sum()) - np.repeat(np.cumsum(flat) - flat, flat)
        first = starts + np.arange(len(rows))[:, None] * length
        number = np.broadcast_to(np.arange(texts.shape[1]), texts.shape)
        return cls(
            np.repeat(offsets[safe].ravel(), flat) + within,
            np.repeat(first.ravel(), flat) + within,
            np.repeat(number.ravel(), flat),
            np.where(valid, starts, 0).astype(np.int32),
        )

    def fill(self, flat: np.ndarray, rows: int, length: int, padding: int = 0) -> np.ndarray:
        """Returns the tokens' values in a batch, (rows, length, …), from the flat array of the set, (tokens, …)."""
        batch = np.full((rows * length, *flat.shape[1:]), padding, flat.dtype)
        batch[self.target] = flat[self.source]
        return batch.reshape(rows, length, *flat.shape[1:])

    def mark(self, rows: np.ndarray, length: int) -> dict[str, np.ndarray]:
        """Returns the fields that tell a model which tokens are whose.

        Args:
          rows: as in `of`.
          length: as in `of`.

        Returns:
          `attention_mask`, int32 (rows, length), 1 for the tokens of the text; or, if texts are packed, `segment_ids`,
          int32 (rows, length), the number of the token's text in the row from 1, 0 for padding, and `text_starts`,
          int32 (rows, texts).
        """
        flat = np.zeros(len(rows) * length, np.int32)
        flat[self.target] = self.text + 1
        marks = flat.reshape(len(rows), length)
        return {"attention_mask": marks} if rows.ndim == 1 else {"segment_ids": marks, "text_starts": self.starts}


def by_example(rows: np.ndarray, fields: Mapping[str, np.ndarray], example_id: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the fields of a batch that have one entry per example.

    Args:
      rows: positions in the set, (rows,) or (rows, texts); -1 for padding.
      fields: the fields of the set by name, (examples, …).
      example_id: int64 (examples,), the row of each example in the source.

    Returns:
      The fields; `example_id`, int64, -1 for padding; and `valid`, bool, False for padding; all begin with the axes of
      `rows`.
    """
    valid = rows >= 0
    safe = np.where(valid, rows, 0)
    return {
        **{name: values[safe] for name, values in fields.items()},
        "example_id": np.where(valid, example_id[safe], -1),
        "valid": valid,
    }
