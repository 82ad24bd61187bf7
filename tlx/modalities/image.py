"""Images: resized and cropped on the CPU, augmented and normalized on the device."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np

from tlx.augment.mixing import mix_labels, mix_targets
from tlx.augment.pipeline import augment
from tlx.augment.settings import Augmentation
from tlx.data.examples import ExampleSet
from tlx.data.folder import read_folder
from tlx.data.image_examples import CACHE_BYTES, ImageExamples
from tlx.data.images import fingerprint
from tlx.data.sources import Table
from tlx.data.tabular import Row
from tlx.modalities.api import Columns, Fields, InputSettings, Prepare, Source, label_fields
from tlx.models.heads import Head
from tlx.models.model import Model
from tlx.pretrained.image_processor import ImageProcessor
from tlx.pretrained.tokenizer_files import copy_files


@dataclasses.dataclass(frozen=True)
class Images:
    """See `Modality`.

    Attributes:
      processor: the checkpoint's image processor.
      augmentation: the augmentation in training.
    """

    processor: ImageProcessor
    augmentation: Augmentation = dataclasses.field(default_factory=Augmentation)

    plural: ClassVar[str] = "images"
    columns: ClassVar[Mapping[str, str | None]] = {"image": "image"}
    fields: ClassVar[tuple[str, ...]] = ("pixel_values",)
    has_lengths: ClassVar[bool] = False
    augments: ClassVar[bool] = True
    length_buckets: ClassVar[tuple[int, ...]] = (1,)

    @classmethod
    def open(cls, folder: Path, settings: InputSettings) -> Self:
        return cls(ImageProcessor(folder, settings.image_size), settings.augmentation)

    @property
    def preprocessor(self) -> ImageProcessor:
        return self.processor

    @property
    def digest(self) -> str:
        return hashlib.sha256(repr(self.processor.settings).encode()).hexdigest()

    def save(self, folder: Path) -> None:
        """Writes the image processor's config with the image size of this run."""
        copy_files(self.processor.folder, folder)
        self.processor.save(folder)

    def prepare(self, rows: Fields, key: jax.Array | None) -> tuple[dict[str, Any], Fields]:
        del key
        return self._scaled(rows["pixel_values"].astype(jnp.float32)), rows

    def training(self, head: Head) -> Prepare:
        if self.augmentation == Augmentation():
            return self.prepare

        def augmented(rows: Fields, key: jax.Array | None) -> tuple[dict[str, Any], Fields]:
            assert key is not None
            images, mixed = augment(self.augmentation, key, rows["pixel_values"], rows["example_id"], rows["valid"])
            inputs = self._scaled(images * 255)
            if mixed is None:
                return inputs, rows
            if head.kind == "regression":
                return inputs, {**rows, "label": mix_targets(rows["label"], mixed.partner, mixed.lam)}
            return inputs, {**rows, "label": mix_labels(rows["label"], mixed.partner, mixed.lam, head.outputs)}

        return augmented

    def _scaled(self, pixels: jax.Array) -> dict[str, Any]:
        """Normalizes pixels, float32 (rows, height, width, 3) from 0 to 255."""
        scaled = pixels * self.processor.scale + self.processor.offset
        return {"pixel_values": scaled, "channels_last": True}

    def tokens(self, model: Model, batch: Mapping[str, Any]) -> int:
        del batch
        backbone: Any = model.backbone
        down, across = backbone.config.grid
        return int(backbone.config.special_tokens + down * across)

    def keys(self, columns: Columns, table: Table) -> list[str]:
        images = table.column(columns.inputs["image"])
        return [fingerprint(images[row]) for row in range(len(table))]

    group_keys = keys

    def encode(
        self, columns: Columns, head: Head | None, table: Table, rows: np.ndarray | None = None, *, once: bool = False
    ) -> ImageExamples:
        """See `Modality`."""
        images, fields = table.column(columns.inputs["image"]), label_fields(columns, head, table)
        cache_bytes = 0 if once else CACHE_BYTES
        return ImageExamples(images, self.processor, fields, rows, name=table.name, cache_bytes=cache_bytes)

    def count_truncated(self, columns: Columns, table: Table, examples: ExampleSet) -> int:
        del columns, table, examples
        return 0

    def encode_inputs(self, inputs: Sequence[Any] | np.ndarray, kind: str | None = None) -> ImageExamples:
        """See `Modality`. The inputs are paths, encoded bytes or arrays."""
        del kind
        return ImageExamples(inputs if isinstance(inputs, np.ndarray) else list(inputs), self.processor, cache_bytes=0)

    def read_arguments(self, words: Sequence[str], columns: Columns, kind: str) -> Sequence[Any]:
        """See `Modality`. The arguments are paths."""
        del columns, kind
        return words

    def read_source(self, source: str, format: str | None) -> Source:
        """See `Modality`. The source is a folder of images; a row holds the path of an image."""
        del format
        paths = [str(path) for path in read_folder(source)["image"]]
        return Source(((path, {"image": path}) for path in paths), "csv", "csv")

    def read_row(self, row: Row, place: str, columns: Columns, kind: str) -> Any:
        del place, columns, kind
        return row["image"]

    def pipeline_tag(self, kind: str) -> str:
        del kind
        return "image-classification"

    def limits(self, kind: str) -> str:
        del kind
        return ""
