"""A set of examples whose inputs are features: plans, batches and metrics take it like texts or images."""

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np

from tlx.data.examples import ExampleSet, Words
from tlx.features.compute import FeatureSet


@dataclasses.dataclass(frozen=True)
class FeatureExamples:
    """Labels, rows and lengths (and so the order of batches) are those of `examples`.

    field: how a batch calls the features, `pooled` or `hidden_state`: (rows, vectors, hidden), or (rows, tokens,
    hidden) padded with zeros. has_lengths: whether the examples have lengths in tokens of their own; a batch of
    `hidden_state` then holds `attention_mask` too.
    """

    examples: ExampleSet
    features: FeatureSet
    field: str
    has_lengths: bool

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def fields(self) -> Mapping[str, np.ndarray]:
        """As in `examples`, like all that follows."""
        return self.examples.fields

    @property
    def token_fields(self) -> Mapping[str, np.ndarray]:
        """By token."""
        return self.examples.token_fields

    @property
    def example_id(self) -> np.ndarray:
        """The row in the source."""
        return self.examples.example_id

    @property
    def offsets(self) -> np.ndarray:
        """Of the examples' tokens."""
        return self.examples.offsets

    @property
    def lengths(self) -> np.ndarray:
        """Of the examples in tokens."""
        return self.examples.lengths

    @property
    def labels(self) -> np.ndarray:
        """What the answers are compared with."""
        return self.examples.labels

    @property
    def words(self) -> Words | None:
        """Of tagged sentences."""
        return self.examples.words

    def content(self) -> Iterator[bytes]:
        """What identifies the set."""
        return self.examples.content()

    def take(self, rows: np.ndarray, length: int) -> dict[str, np.ndarray]:
        """The features and fields of these rows; a row of -1 is padding and not `valid`."""
        valid = rows >= 0
        safe = np.where(valid, rows, 0)
        return {
            **(self._padded(rows, length) if self.features.offsets is not None else self._vectors(safe)),
            **{name: values[safe] for name, values in self.fields.items()},
            "example_id": np.where(valid, self.example_id[safe], -1),
            "valid": valid,
        }

    def _vectors(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        return {self.field: np.asarray(self.features.values[rows])}

    def _padded(self, rows: np.ndarray, length: int) -> dict[str, np.ndarray]:
        values, offsets = self.features.values, self.features.offsets
        assert offsets is not None
        length = length if self.has_lengths else int(offsets[1])
        mask = np.zeros((len(rows), length), np.int32)
        by_token = {self.field: values, **self.token_fields}
        padded = {
            name: np.zeros((len(rows), length, *of.shape[1:]), of.dtype) for name, of in by_token.items()
        }  # fmt: skip
        for i in np.flatnonzero(rows >= 0):
            start, stop = offsets[rows[i]], offsets[rows[i] + 1]
            mask[i, : stop - start] = 1
            for name, of in by_token.items():
                padded[name][i, : stop - start] = of[start:stop]
        return {**padded, "attention_mask": mask} if self.has_lengths else padded
