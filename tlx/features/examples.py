"""A set of examples whose inputs are features; it is used in the same way as a set of texts or images."""

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np

from tlx.data.examples import ExampleSet
from tlx.data.places import Places, by_example
from tlx.data.spans import Spans
from tlx.data.words import Words
from tlx.features.compute import FeatureSet


@dataclasses.dataclass(frozen=True)
class FeatureExamples:
    """Examples with features as inputs. Labels, ids and lengths, and so the order of batches, are those of `examples`.

    Attributes:
      examples: the examples from which the features were computed.
      features: their features.
      field: the name of the features in a batch: `pooled`, (rows, vectors, hidden), or `hidden_state`, (rows, tokens,
        hidden), padded with zeros. A packed batch has `pooled` (rows, texts, vectors, hidden).
      has_lengths: whether the examples differ in length; a batch of `hidden_state` then also has `attention_mask`.
    """

    examples: ExampleSet
    features: FeatureSet
    field: str
    has_lengths: bool

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def fields(self) -> Mapping[str, np.ndarray]:
        """The fields with one value for an example, such as labels."""
        return self.examples.fields

    @property
    def token_fields(self) -> Mapping[str, np.ndarray]:
        """The fields with one value for a token."""
        return self.examples.token_fields

    @property
    def example_id(self) -> np.ndarray:
        """The row of each example in its source, int64 (examples,)."""
        return self.examples.example_id

    @property
    def offsets(self) -> np.ndarray:
        """Where each example's tokens begin, int64 (examples + 1,)."""
        return self.examples.offsets

    @property
    def lengths(self) -> np.ndarray:
        """The number of tokens of each example, (examples,)."""
        return self.examples.lengths

    @property
    def labels(self) -> np.ndarray:
        """The labels with which predictions are compared."""
        return self.examples.labels

    @property
    def words(self) -> Words | None:
        """The words of tagged sentences; None for other sets."""
        return self.examples.words

    @property
    def spans(self) -> Spans | None:
        """The questions whose answers are spans of a context; None for other sets."""
        return self.examples.spans

    def content(self) -> Iterator[bytes]:
        """Yields the bytes that identify the set."""
        return self.examples.content()

    def take(self, rows: np.ndarray, length: int) -> dict[str, np.ndarray]:
        """Returns a batch, as `Examples.take` does, with the features in place of the tokens.

        Args:
          rows: the positions of the examples, (rows,) or (rows, texts), -1 for padding, which is not `valid`.
          length: the number of tokens of a row of `hidden_state`.

        Returns:
          The features: with one entry per token (rows, length, hidden), else (rows, vectors, hidden) or
          (rows, texts, vectors, hidden); and the other fields.
        """
        fields = by_example(rows, self.fields, self.example_id)
        values, offsets = self.features.values, self.features.offsets
        if offsets is None:
            return {self.field: np.asarray(values[np.maximum(rows, 0)]), **fields}
        length = length if self.has_lengths else int(offsets[1])
        places = Places.of(offsets, rows, length)
        by_token = {self.field: values, **self.token_fields}
        padded = {name: places.fill(array, len(rows), length) for name, array in by_token.items()}
        return {**padded, **(places.mark(rows, length) if self.has_lengths else {}), **fields}
