"""The interface of a modality: everything that differs between kinds of input, such as texts and images.

To add a modality, write a file with a class that implements `Modality` and add it to `MODALITIES` (`open.py`). The
config class of a family of backbones names its modality (`modality = "text"`). No other code depends on the kind of
input.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import jax
import numpy as np

from tlx.augment.masking import Masking
from tlx.augment.settings import Augmentation
from tlx.data import labels
from tlx.data.examples import ExampleSet
from tlx.data.readers import READERS
from tlx.data.sources import Table
from tlx.data.stream import FORMATS, format_of
from tlx.data.tabular import Row
from tlx.data.targets import multilabel_targets, regression_targets
from tlx.errors import TlxError, listed
from tlx.models.heads import Head
from tlx.models.model import Model

Fields = Mapping[str, jax.Array]  # a batch: arrays by name
Prepare = Callable[[Fields, jax.Array | None], tuple[dict[str, Any], Fields]]


@dataclasses.dataclass(frozen=True)
class Columns:
    """Which columns of a table are read.

    Attributes:
      inputs: the column of each input by the input's name (`text`, `pair`, `image`); inputs that are not read are left
        out.
      label: the column of the labels; several names joined by commas for a head with several targets.
      label_separator: the separator between several labels in one column.
    """

    inputs: Mapping[str, str]
    label: str = "label"
    label_separator: str = "|"

    @classmethod
    def of(cls, modality: "Modality", data: Mapping[str, Any]) -> Self:
        """Returns the columns that a config names.

        Args:
          modality: gives the default names.
          data: column names by input, `label` and `label_separator`, such as the config's `data`; other keys are
            ignored.
        """
        by_input = {name: data.get(name, default) for name, default in modality.columns.items()}
        columns = cls({name: column for name, column in by_input.items() if column})
        labels_in_config = {name: data[name] for name in ("label", "label_separator") if name in data}
        return dataclasses.replace(columns, **labels_in_config)


@dataclasses.dataclass(frozen=True)
class InputSettings:
    """Settings of a run that override those of its checkpoint; each modality reads the ones that concern it.

    Attributes:
      max_length: the number of tokens to which texts are truncated; None: the checkpoint's maximum.
      stride: the number of tokens by which the windows of a long tagged sentence overlap; None: a quarter of
        `max_length`.
      image_size: the height of the model's images in pixels; None: the checkpoint's.
      augmentation: the augmentation of images in training.
      masking: how tokens are masked where examples are those of a masked language model.
      masked_tasks: the names of the tasks of masked language modelling.
    """

    max_length: int | None = None
    stride: int | None = None
    image_size: int | None = None
    augmentation: Augmentation = dataclasses.field(default_factory=Augmentation)
    masking: Masking = dataclasses.field(default_factory=Masking)
    masked_tasks: tuple[str, ...] = ()


class Inputs(Protocol):
    """How a batch becomes the inputs of the model."""

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of a batch that `prepare` reads; other fields need not be on the device."""

    @property
    def length_buckets(self) -> tuple[int, ...]:
        """The lengths to which batches are padded."""

    def prepare(self, rows: Fields, key: jax.Array | None) -> tuple[dict[str, Any], Fields]:
        """Makes the inputs of the model from a batch, on the device.

        Args:
          rows: the fields of a batch, (rows, …).
          key: a random key; None in evaluation.

        Returns:
          The model's keyword arguments, and the batch.
        """

    def training(self, head: Head) -> Prepare:
        """Returns the function that replaces `prepare` in training. It may use the key and may change labels."""

    def tokens(self, model: Model, batch: Mapping[str, Any]) -> int:
        """Returns the number of tokens of each row of a batch inside the model's blocks."""


class Modality(Inputs, Protocol):
    """One kind of input: its columns, its encoding, the model's inputs, and how `tlx predict` reads it.

    Attributes:
      plural: the name of the inputs in messages, such as `texts`.
      columns: the default column of each input; None for an input that is read only if the config names its column.
      has_lengths: whether the examples differ in length, so that batches are padded and have an `attention_mask`.
      augments: whether `InputSettings.augmentation` has an effect.
    """

    plural: ClassVar[str]
    columns: ClassVar[Mapping[str, str | None]]
    has_lengths: ClassVar[bool]
    augments: ClassVar[bool]

    @classmethod
    def open(cls, folder: Path, settings: InputSettings) -> Self:
        """Opens the preprocessor of the checkpoint in `folder`.

        Raises:
          TlxError: its files are missing or damaged.
        """

    @property
    def preprocessor(self) -> Any:
        """The checkpoint's preprocessor, such as its tokenizer."""

    @property
    def digest(self) -> str:
        """SHA-256 of everything that affects the encoding of an input; part of the name of cached features."""

    def save(self, folder: Path) -> None:
        """Writes the files that `open` reads into an existing folder."""

    def group_keys(self, columns: Columns, table: Table) -> list[str]:
        """Returns a string for each row; rows with equal strings are put into the same split."""

    def keys(self, columns: Columns, table: Table) -> list[str]:
        """Returns a string for each row; the strings of two rows are equal if their inputs are equal."""

    def encode(
        self, columns: Columns, head: Head | None, table: Table, rows: np.ndarray | None = None, *, once: bool = False
    ) -> ExampleSet:
        """Encodes a table.

        Args:
          columns: the columns to read.
          head: the head whose labels are read; None: no labels are read.
          table: the table; its rows become examples in the same order.
          rows: int64 (examples,), the row of each example in its source; None: its row in the table.
          once: whether each example is read once only, so that nothing needs to be kept in memory for a second time.

        Raises:
          TlxError: a row holds no such input or label.
        """

    def count_truncated(self, columns: Columns, table: Table, examples: ExampleSet) -> int:
        """Returns how many examples of an encoded table were truncated to the length that the model takes."""

    def encode_inputs(self, inputs: Sequence[Any] | np.ndarray, kind: str | None = None) -> ExampleSet:
        """Encodes plain values, without labels.

        Args:
          inputs: the values, such as texts, pairs of texts, lists of words, or paths or arrays of images.
          kind: the kind of the head that predicts; None: no head is used.

        Raises:
          TlxError: a value is not such an input.
        """

    def read_arguments(self, words: Sequence[str], columns: Columns, kind: str) -> Sequence[Any]:
        """Converts arguments of a command line to inputs for `encode_inputs`.

        Raises:
          TlxError: such inputs cannot be given on a command line.
        """

    def read_source(self, source: str, format: str | None) -> "Source":
        """Reads the rows of a file, a folder or standard input, one at a time.

        Args:
          source: the path, or `-` for standard input.
          format: the format of a file whose suffix does not name it.
        """

    def read_row(self, row: Row, place: str, columns: Columns, kind: str) -> Any:
        """Converts a row of a source to an input for `encode_inputs`, by the same rules as in training.

        Args:
          row: the row.
          place: the file and line of the row, for messages.
          columns: the columns to read.
          kind: the kind of the head that predicts.

        Raises:
          TlxError: the row lacks a column or holds no such input.
        """

    def pipeline_tag(self, kind: str) -> str:
        """Returns the Hugging Face hub's name of the task of a kind of head, for a model card."""

    def limits(self, kind: str) -> str:
        """Returns a sentence for a model card on how long inputs are truncated; empty if they are not."""


@dataclasses.dataclass(frozen=True)
class Source:
    """Rows that `tlx predict` reads.

    Attributes:
      rows: pairs `(place, row)`; the place is for messages.
      format: the format of predictions on standard output, unless the user asks for another.
      file_format: the format of an output file whose suffix names none; None: the user has to name it.
    """

    rows: Iterator[tuple[str, Row]]
    format: str
    file_format: str | None = None


def source_of_rows(source: str, format: str | None) -> Source:
    """Reads JSON lines, CSV, TSV, CoNLL or npz from a file or standard input.

    Predictions are written in the format of the input if it is JSON lines or CSV, as CSV for TSV, else as JSON lines.
    """
    input_format = format_of(source, format, READERS)
    output_formats = {name: name for name in FORMATS} | {"tsv": "csv"}
    return Source(READERS[input_format].rows(source), output_formats.get(input_format, "jsonl"))


def value_of(row: Row, column: str, place: str) -> Any:
    """Returns the value of a row in a column.

    Raises:
      TlxError: the row has no such column.
    """
    if column not in row:
        raise TlxError(f"{place}: there is no column {column!r}; there is {listed(row)}.")
    return row[column]


def label_fields(columns: Columns, head: Head | None, table: Table) -> dict[str, np.ndarray]:
    """Returns the labels of a head with one prediction per example.

    Returns:
      `{"label": labels}`: int32 (rows,) class indices, int32 (rows, labels) for a multi-label head, or float32
      (rows, outputs) for regression; empty if there is no head.
    """
    if head is None:
        return {}
    if head.kind == "regression":
        return {"label": regression_targets(table, columns.label)}
    if head.kind == "multilabel":
        return {"label": multilabel_targets(table, columns.label, head.labels, columns.label_separator)}
    return {"label": labels.class_indices(table, columns.label, head.labels)}
