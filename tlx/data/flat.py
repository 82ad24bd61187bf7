"""Token lists into flat arrays, a chunk of texts at a time.

A token in a list of Python takes some 40 bytes, and what a tokenizer keeps of it beside that as much again; in the flat
arrays it takes eight. Only one chunk is ever held as lists.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

CHUNK = 1024  # texts that are tokenized at once; with 128 or with 20,000 a tokenizer is slower


def chunks(size: int) -> Iterator[slice]:
    """Yields slices that divide `size` rows into chunks, in order."""
    return (slice(start, min(start + CHUNK, size)) for start in range(0, size, CHUNK))


@dataclasses.dataclass
class Flat:
    """Tokens of texts, which are added chunk by chunk."""

    _ids: list[np.ndarray] = dataclasses.field(default_factory=list)
    _types: list[np.ndarray] = dataclasses.field(default_factory=list)
    _sizes: list[np.ndarray] = dataclasses.field(default_factory=lambda: [np.zeros(1, np.int64)])

    def add(self, ids: Sequence[Sequence[int] | np.ndarray], types: Sequence[Sequence[int] | np.ndarray]) -> None:
        """Adds texts; `ids` and `types` hold the token ids and the token types of each."""
        sizes = np.array([len(row) for row in ids], np.int64)
        self._ids.append(_joined(ids, int(sizes.sum())))
        self._types.append(_joined(types, int(sizes.sum())))
        self._sizes.append(sizes)

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns the ids and the types, int32 (tokens,), and int64 (texts + 1,), where each text begins."""
        none = np.zeros(0, np.int32)
        ids, types = (np.concatenate([none, *pieces]) for pieces in (self._ids, self._types))
        return ids, types, np.cumsum(np.concatenate(self._sizes))


def _joined(rows: Sequence[Any], size: int) -> np.ndarray:
    """int32 (size,)"""
    if len(rows) and isinstance(rows[0], np.ndarray):
        return np.concatenate(rows).astype(np.int32, copy=False)
    return np.fromiter(itertools.chain.from_iterable(rows), np.int32, size)
