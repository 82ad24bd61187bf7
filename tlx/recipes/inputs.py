"""What a run reads and what its model takes of it: texts through a tokenizer, images through an image processor."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from tlx.augment.mixing import mix_labels
from tlx.augment.pipeline import augment
from tlx.augment.settings import Augmentation, preset
from tlx.data import labels
from tlx.data.examples import Examples, ExampleSet
from tlx.data.image_examples import ImageExamples
from tlx.data.images import fingerprint
from tlx.data.plan import buckets_up_to
from tlx.data.sources import Table
from tlx.errors import TlxError
from tlx.methods.finetune import Prepare
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
    def length_buckets(self) -> tuple[int, ...]: ...

    def whole(self, data: ConfigDict, table: Table) -> list[str]:
        """A string for each row; rows where it is equal stay on one side of a cut."""

    def keys(self, data: ConfigDict, table: Table) -> list[str]:
        """A string for each row, equal where what is read is equal."""

    def encode(self, data: ConfigDict, head: Head, table: Table, rows: np.ndarray) -> ExampleSet:
        """A table as the model takes it. rows: int64, where each example stands in its source."""

    def count_cut(self, data: ConfigDict, table: Table, examples: ExampleSet) -> int:
        """How many examples of an encoded table are longer than the model takes, and are read in part."""

    def prepare(self, rows: Rows, key: jax.Array | None) -> tuple[dict[str, Any], Rows]:
        """On the device: what the model takes of a batch, and the batch."""

    def training(self, head: Head) -> Prepare:
        """The same in training, where a key may decide what is drawn, and labels may change with it."""

    def tokens(self, model: Model, batch: Mapping[str, Any]) -> int:
        """Of each example of a batch, as the blocks see it."""

    def save(self, folder: Path) -> None:
        """What it reads with, into a folder that holds the checkpoint's own files."""


def open_inputs(folder: Path, config: Mapping[str, Any]) -> Inputs:
    """As the checkpoint in `folder` takes them. config: the run's, or a finished run's as plain values."""
    family = FAMILIES.get(read_config(folder)["model_type"])
    if family is not None and issubclass(family[0], ImageConfig):
        size = config["model"].get("image_size")
        return ImageInputs(ImageProcessor(folder, size), augmentation(config.get("augment", {})))
    if augmentation(config.get("augment", {})) != Augmentation():
        raise TlxError("config.augment is of images; this checkpoint takes texts.")
    return TextInputs(Tokenizer(folder, config["data"]["max_length"]), config["data"].get("stride"))


@dataclasses.dataclass(frozen=True)
class TextInputs:
    """Texts, pairs of texts, or words.

    stride: tokens by which the windows of a sentence overlap that is longer than `max_length`; None: a quarter of it.
    """

    tokenizer: Tokenizer
    stride: int | None = None

    FIELDS = ("input_ids", "attention_mask", "token_type_ids")

    @property
    def length_buckets(self) -> tuple[int, ...]:
        return buckets_up_to(self.tokenizer.max_length)

    def whole(self, data: ConfigDict, table: Table) -> list[str]:
        return [str(text) for text in table.column(data.text)]

    def keys(self, data: ConfigDict, table: Table) -> list[str]:
        columns = [table.column(name) for name in (data.text, data.pair) if name]
        return [str(key) for key in zip(*columns, strict=True)]

    def encode(self, data: ConfigDict, head: Head, table: Table, rows: np.ndarray) -> Examples:
        if head.kind == "tagging":
            tags = labels.tag_indices(table, data.text, data.label, head.labels)
            return self.encode_words(labels.token_lists(table, data.text), tags, rows)
        pairs = labels.texts(table, data.pair) if data.pair else None
        fields = {"label": targets(data, head, table)}
        return Examples.encode(self.tokenizer, labels.texts(table, data.text), pairs, fields, rows)

    def count_cut(self, data: ConfigDict, table: Table, examples: ExampleSet) -> int:
        if examples.words is not None:  # read in windows
            return 0
        full = np.flatnonzero(examples.lengths == self.tokenizer.max_length)
        columns = [table.column(name) for name in (data.text, data.pair) if name]
        return self.tokenizer.count_longer(*([column[row] for row in full] for column in columns))

    def encode_words(
        self,
        sentences: Sequence[Sequence[str]],
        tags: Sequence[np.ndarray] | None = None,
        rows: np.ndarray | None = None,
    ) -> Examples:
        """As `Examples.encode_words`, with the run's tokenizer, `max_length` and `stride`."""
        return Examples.encode_words(self.tokenizer, sentences, tags, rows, self.stride)

    def prepare(self, rows: Rows, key: jax.Array | None) -> tuple[dict[str, Any], Rows]:
        del key
        return {name: rows[name] for name in self.FIELDS if name in rows}, rows

    def training(self, head: Head) -> Prepare:
        del head
        return self.prepare

    def tokens(self, model: Model, batch: Mapping[str, Any]) -> int:
        del model
        return int(batch["input_ids"].shape[1])

    def save(self, folder: Path) -> None:
        """The checkpoint's files say it all."""


@dataclasses.dataclass(frozen=True)
class ImageInputs:
    """Images, resized and cropped on the CPU, brought to the checkpoint's scale on the device."""

    processor: ImageProcessor
    augmentation: Augmentation = dataclasses.field(default_factory=Augmentation)

    length_buckets = (1,)

    def whole(self, data: ConfigDict, table: Table) -> list[str]:
        images = table.column(data.image)
        return [fingerprint(images[row]) for row in range(len(table))]

    keys = whole

    def encode(self, data: ConfigDict, head: Head, table: Table, rows: np.ndarray) -> ImageExamples:
        fields = {"label": targets(data, head, table)}
        return ImageExamples(table.column(data.image), self.processor, fields, rows, name=table.name)

    def count_cut(self, data: ConfigDict, table: Table, examples: ExampleSet) -> int:
        del data, table, examples
        return 0

    def prepare(self, rows: Rows, key: jax.Array | None) -> tuple[dict[str, Any], Rows]:
        del key
        return self._scaled(rows["pixel_values"].astype(jnp.float32)), rows

    def training(self, head: Head) -> Prepare:
        if self.augmentation == Augmentation():
            return self.prepare

        def augmented(rows: Rows, key: jax.Array | None) -> tuple[dict[str, Any], Rows]:
            assert key is not None
            images, mixed = augment(self.augmentation, key, rows["pixel_values"], rows["example_id"], rows["valid"])
            given = self._scaled(images * 255)
            if mixed is None:
                return given, rows
            if head.kind == "regression":
                share, label = mixed.lam[:, None], rows["label"]
                return given, {**rows, "label": share * label + (1 - share) * label[mixed.partner]}
            return given, {**rows, "label": mix_labels(rows["label"], mixed.partner, mixed.lam, head.outputs)}

        return augmented

    def _scaled(self, pixels: jax.Array) -> dict[str, Any]:
        """pixels: float32, 0 to 255."""
        scaled = pixels * self.processor.scale + self.processor.offset
        return {"pixel_values": scaled, "channels_last": True}

    def tokens(self, model: Model, batch: Mapping[str, Any]) -> int:
        del batch
        backbone: Any = model.backbone
        down, across = backbone.config.grid
        return int(backbone.config.special_tokens + down * across)

    def save(self, folder: Path) -> None:
        self.processor.save(folder)


def augmentation(config: Mapping[str, Any]) -> Augmentation:
    """The preset, with what the config says otherwise than by default."""
    defaults = dataclasses.asdict(Augmentation())
    said = {name: value for name, value in config.items() if name != "preset"}
    return dataclasses.replace(
        preset(config.get("preset", "none")), **{name: value for name, value in said.items() if value != defaults[name]}
    )


def targets(data: ConfigDict, head: Head, table: Table) -> np.ndarray:
    """What a head of whole texts or images is to answer."""
    if head.kind == "regression":
        return labels.targets(table, data.label)
    if head.kind == "multilabel":
        return labels.multilabel(table, data.label, head.labels, data.label_separator)
    return labels.class_indices(table, data.label, head.labels)
