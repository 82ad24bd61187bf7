"""The contract of a modality: all that differs between texts and images, from a table's columns to the model.

A modality is one file with a class that gives `Modality`, and one line in `MODALITIES` (`open.py`); a family of
backbones names it in its config's class (`modality = "text"`). Nothing else asks what kind of input it has.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import jax
import numpy as np

from tlx.augment.settings import Augmentation
from tlx.data import labels
from tlx.data.examples import ExampleSet
from tlx.data.readers import READERS
from tlx.data.sources import Table
from tlx.data.stream import FORMATS, format_of
from tlx.data.tabular import Row
from tlx.errors import TlxError, listed
from tlx.models.heads import Head
from tlx.models.model import Model

Fields = Mapping[str, jax.Array]  # of a batch
Prepare = Callable[[Fields, jax.Array | None], tuple[dict[str, Any], Fields]]


@dataclasses.dataclass(frozen=True)
class Columns:
    """Which columns of a table are read.

    Attributes:
      inputs: the column of each input, by the input's name (`text`, `pair`, `image`); what is not read is not there.
      label: the column of the labels; several joined by commas where a head takes several.
      label_separator: what stands between several labels in one column.
    """

    inputs: Mapping[str, str]
    label: str = "label"
    label_separator: str = "|"

    @classmethod
    def of(cls, modality: "Modality", data: Mapping[str, Any]) -> Self:
        """The columns that `data` names, such as a config's `data`; the others are called as the modality says."""
        named = {name: data.get(name, usual) for name, usual in modality.columns.items()}
        found = cls({name: column for name, column in named.items() if column})
        given = {name: data[name] for name in ("label", "label_separator") if name in data}
        return dataclasses.replace(found, **given)


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a run may say otherwise than its checkpoint; each modality reads its own.

    Attributes:
      max_length: tokens to which texts are cut; None: as many as the checkpoint takes.
      stride: tokens by which the windows of a long tagged sentence overlap; None: a quarter of `max_length`.
      image_size: of the images in pixels; None: the checkpoint's.
      augmentation: of images in training.
    """

    max_length: int | None = None
    stride: int | None = None
    image_size: int | None = None
    augmentation: Augmentation = dataclasses.field(default_factory=Augmentation)


class Inputs(Protocol):
    """What of a batch the model takes."""

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of a batch that `prepare` reads; no others need be on the device."""

    @property
    def length_buckets(self) -> tuple[int, ...]:
        """Lengths to which batches are padded."""

    def prepare(self, rows: Fields, key: jax.Array | None) -> tuple[dict[str, Any], Fields]:
        """On the device: what the model takes of a batch, and the batch."""

    def training(self, head: Head) -> Prepare:
        """The same in training, where a key may decide what is drawn, and labels may change with it."""

    def tokens(self, model: Model, batch: Mapping[str, Any]) -> int:
        """Tokens of each example of a batch, as the blocks see it."""


class Modality(Inputs, Protocol):
    """One kind of input: its columns, its encoding, its inputs on the device, how `tlx predict` reads it.

    Attributes:
      plural: what the inputs are called in sentences.
      columns: the inputs that are read of a table and the usual name of each one's column; None: usually there is none.
      has_lengths: whether examples have lengths in tokens of their own, so that batches are padded and hold an
        `attention_mask`.
      augments: whether `Settings.augmentation` is followed.
    """

    plural: ClassVar[str]
    columns: ClassVar[Mapping[str, str | None]]
    has_lengths: ClassVar[bool]
    augments: ClassVar[bool]

    @classmethod
    def open(cls, folder: Path, settings: Settings) -> Self:
        """As the checkpoint in `folder` takes it."""

    @property
    def preprocessor(self) -> Any:
        """The checkpoint's own, such as its tokenizer."""

    @property
    def digest(self) -> str:
        """SHA-256 of all that decides what an input becomes; part of the name of stored features."""

    def save(self, folder: Path) -> None:
        """Writes what `open` reads into a folder that exists, which then serves in the checkpoint's place."""

    def group_keys(self, columns: Columns, table: Table) -> list[str]:
        """A string for each row; rows where it is equal stay on one side of a cut."""

    def keys(self, columns: Columns, table: Table) -> list[str]:
        """A string for each row, equal where what is read is equal."""

    def encode(self, columns: Columns, head: Head | None, table: Table, rows: np.ndarray | None = None) -> ExampleSet:
        """A table as the model takes it.

        Args:
          columns: which are read.
          head: decides the labels; None: without any.
          table: its rows in order.
          rows: int64, where each example stands in its source; None: as in the table.
        """

    def count_truncated(self, columns: Columns, table: Table, examples: ExampleSet) -> int:
        """How many examples of an encoded table are longer than the model takes, and are read in part."""

    def encode_inputs(self, inputs: Sequence[Any] | np.ndarray, kind: str | None = None) -> ExampleSet:
        """Plain values as the model takes them, without labels.

        Args:
          inputs: such as texts, pairs of texts, lists of words; paths or arrays of images.
          kind: of the head that is to answer; None: of none.

        Raises:
          TlxError: what is no such input.
        """

    def read_arguments(self, words: Sequence[str], columns: Columns, kind: str) -> Sequence[Any]:
        """Words of a command line as inputs for `encode_inputs`.

        Raises:
          TlxError: a command line cannot hold such inputs.
        """

    def read_source(self, source: str, format: str | None) -> "Source":
        """The rows of a file, of a folder or of standard input (`-`), one at a time.

        Args:
          source: its path.
          format: of a file, where its suffix does not tell.
        """

    def read_row(self, row: Row, place: str, columns: Columns, kind: str) -> Any:
        """A row of a source as an input for `encode_inputs`, by the rules of training. place: of it, for messages."""

    def pipeline_tag(self, kind: str) -> str:
        """The task of a head's kind in a model card's front matter, as the Hugging Face hub calls it."""

    def limits(self, kind: str) -> str:
        """A sentence for a model card on what is cut off of an input; empty where nothing is."""


@dataclasses.dataclass(frozen=True)
class Source:
    """Rows to be answered.

    Attributes:
      rows: `(place, row)` after `(place, row)`; the place is for messages.
      format: that of rows on standard output, where none is asked for.
      file_format: that of an output file whose suffix tells none; None: it has to be asked for.
    """

    rows: Iterator[tuple[str, Row]]
    format: str
    file_format: str | None = None


def source_of_rows(source: str, format: str | None) -> Source:
    """JSON lines, CSV, TSV, CoNLL or npz, a file or standard input; the answers go out as the rows came in."""
    reading = format_of(source, format, READERS)
    written = {name: name for name in FORMATS} | {"tsv": "csv"}
    return Source(READERS[reading].rows(source), written.get(reading, "jsonl"))


def value_of(row: Row, column: str, place: str) -> Any:
    """What a row holds in a column."""
    if column not in row:
        raise TlxError(f"{place}: there is no column {column!r}; there is {listed(row)}.")
    return row[column]


def label_fields(columns: Columns, head: Head | None, table: Table) -> dict[str, np.ndarray]:
    """`label`, what a head that answers whole examples is to answer; nothing without a head."""
    if head is None:
        return {}
    if head.kind == "regression":
        return {"label": labels.targets(table, columns.label)}
    if head.kind == "multilabel":
        return {"label": labels.multilabel(table, columns.label, head.labels, columns.label_separator)}
    return {"label": labels.class_indices(table, columns.label, head.labels)}
