"""What a run reads and what its model takes of it: texts through a tokenizer, images through an image processor."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from tlx.data import labels
from tlx.data.examples import Examples, ExampleSet
from tlx.data.image_examples import ImageExamples
from tlx.data.images import fingerprint
from tlx.data.plan import up_to
from tlx.data.sources import Table
from tlx.models.heads import Head
from tlx.models.image_config import ImageConfig
from tlx.models.model import FAMILIES, Model
from tlx.pretrained.folder import read_config
from tlx.pretrained.image_processor import ImageProcessor
from tlx.pretrained.tokenizer import Tokenizer

Rows = Mapping[str, jax.Array]


class Inputs(Protocol):
    """ladder: lengths to which batches are padded."""

    @property
    def ladder(self) -> tuple[int, ...]: ...

    def whole(self, data: ConfigDict, table: Table) -> list[str]:
        """A string for each row; rows where it is equal stay on one side of a cut."""

    def keys(self, data: ConfigDict, table: Table) -> list[str]:
        """A string for each row, equal where what is read is equal."""

    def encode(self, data: ConfigDict, head: Head, table: Table, rows: np.ndarray) -> ExampleSet:
        """A table as the model takes it. rows: int64, where each example stands in its source."""

    def prepare(self, rows: Rows, key: jax.Array | None) -> tuple[dict[str, Any], Rows]:
        """On the device: what the model takes of a batch, and the batch with its labels. key: of what is drawn in
        training; None outside."""

    def tokens(self, model: Model, batch: Mapping[str, Any]) -> int:
        """Of each example of a batch, as the blocks see it."""

    def save(self, folder: Path) -> None:
        """What it reads with, into a folder that holds the checkpoint's own files."""


def open_inputs(folder: Path, config: Mapping[str, Any]) -> Inputs:
    """As the checkpoint in `folder` takes them. config: the run's, or a finished run's as plain values."""
    family = FAMILIES.get(read_config(folder)["model_type"])
    if family is not None and issubclass(family[0], ImageConfig):
        size = config["model"].get("image_size")
        return ImageInputs(ImageProcessor(folder, size), size)
    return TextInputs(Tokenizer(folder, config["data"]["max_length"]))


@dataclasses.dataclass(frozen=True)
class TextInputs:
    """Texts, pairs of texts, or words."""

    tokenizer: Tokenizer

    FIELDS = ("input_ids", "attention_mask", "token_type_ids")

    @property
    def ladder(self) -> tuple[int, ...]:
        return up_to(self.tokenizer.max_length)

    def whole(self, data: ConfigDict, table: Table) -> list[str]:
        return [str(text) for text in table.column(data.text)]

    def keys(self, data: ConfigDict, table: Table) -> list[str]:
        columns = [table.column(name) for name in (data.text, data.pair) if name]
        return [str(key) for key in zip(*columns, strict=True)]

    def encode(self, data: ConfigDict, head: Head, table: Table, rows: np.ndarray) -> Examples:
        if head.kind == "tagging":
            tags = labels.tag_indices(table, data.text, data.label, head.labels)
            return Examples.encode_words(self.tokenizer, labels.token_lists(table, data.text), tags, rows)
        pairs = labels.texts(table, data.pair) if data.pair else None
        fields = {"label": targets(data, head, table)}
        return Examples.encode(self.tokenizer, labels.texts(table, data.text), pairs, fields, rows)

    def prepare(self, rows: Rows, key: jax.Array | None) -> tuple[dict[str, Any], Rows]:
        del key
        return {name: rows[name] for name in self.FIELDS if name in rows}, rows

    def tokens(self, model: Model, batch: Mapping[str, Any]) -> int:
        del model
        return int(batch["input_ids"].shape[1])

    def save(self, folder: Path) -> None:
        """The checkpoint's files say it all."""


@dataclasses.dataclass(frozen=True)
class ImageInputs:
    """Images, resized and cropped on the CPU, brought to the checkpoint's scale on the device."""

    processor: ImageProcessor
    size: int | None = None

    ladder = (1,)

    def whole(self, data: ConfigDict, table: Table) -> list[str]:
        images = table.column(data.image)
        return [fingerprint(images[row]) for row in range(len(table))]

    keys = whole

    def encode(self, data: ConfigDict, head: Head, table: Table, rows: np.ndarray) -> ImageExamples:
        fields = {"label": targets(data, head, table)}
        return ImageExamples(table.column(data.image), self.processor, fields, rows, name=table.name)

    def prepare(self, rows: Rows, key: jax.Array | None) -> tuple[dict[str, Any], Rows]:
        pixels = rows["pixel_values"].astype(jnp.float32)
        scaled = pixels * self.processor.scale + self.processor.offset
        return {"pixel_values": scaled, "channels_last": True}, rows

    def tokens(self, model: Model, batch: Mapping[str, Any]) -> int:
        del batch
        backbone: Any = model.backbone
        down, across = backbone.config.grid
        return int(backbone.config.special_tokens + down * across)

    def save(self, folder: Path) -> None:
        self.processor.save(folder)


def targets(data: ConfigDict, head: Head, table: Table) -> np.ndarray:
    """What a head of whole texts or images is to answer."""
    if head.kind == "regression":
        return labels.targets(table, data.label)
    if head.kind == "multilabel":
        return labels.multilabel(table, data.label, head.labels, data.label_separator)
    return labels.class_indices(table, data.label, head.labels)
