"""A set of images as examples: read, resized and cropped by threads on access, and cached if they fit into memory."""

import copy
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np

from tlx.data.images import fingerprint

CACHE_BYTES = 2**30


class PixelReader(Protocol):
    """Reads images at a fixed size, such as `tlx.pretrained.image_processor.ImageProcessor`.

    Attributes:
      height: the height of the result in pixels.
      width: the width of the result in pixels.
    """

    height: int
    width: int

    def pixels(self, image: Any, where: str) -> np.ndarray:
        """Reads an image; called from several threads at once.

        Args:
          image: a path, encoded bytes or an array.
          where: the image's name in messages.

        Returns:
          uint8 (height, width, 3).
        """


class ImageExamples:
    """A set of images. It implements `tlx.data.examples.ExampleSet`.

    Args:
      images: paths, encoded bytes or arrays, as a list, an array or a `Lazy` column; read one at a time.
      reader: reads an image and resizes it.
      fields: arrays with one entry per example by name, such as `label`, (n, …).
      example_id: int64 (n,), the row of each image in the source; None: its position.
      name: the source's name in messages.
      threads: the number of threads that read the images of a batch; None: one for each core. The result does not
        depend on it.
      cache_bytes: the size of the cache. If the pixels of all images (n · height · width · 3 bytes) fit into it, each
        image is read only once; else no image is cached.
    """

    def __init__(
        self,
        images: Sequence[Any] | np.ndarray,
        reader: PixelReader,
        fields: Mapping[str, np.ndarray] | None = None,
        example_id: np.ndarray | None = None,
        *,
        name: str = "images",
        threads: int | None = None,
        cache_bytes: int = CACHE_BYTES,
    ):
        self.images, self.reader, self.name = images, reader, name
        self.fields: dict[str, np.ndarray] = dict(fields or {})
        self.token_fields: dict[str, np.ndarray] = {}
        self.example_id = np.arange(len(images), dtype=np.int64) if example_id is None else example_id
        self.threads = threads or os.cpu_count() or 1
        shape = (len(images), reader.height, reader.width, 3)
        self._pixels = np.empty(shape, np.uint8) if np.prod(shape, dtype=float) <= cache_bytes else None
        self._cached = np.zeros(len(images), bool)

    def with_field(self, name: str, values: np.ndarray) -> "ImageExamples":
        """Returns the set with a further field, (n, …); both share the images that are read."""
        changed = copy.copy(self)
        changed.fields = {**self.fields, name: values}
        return changed

    def __len__(self) -> int:
        return len(self.images)

    @property
    def offsets(self) -> np.ndarray:
        """The offsets of the images, int64 (n + 1,): an image counts as one token."""
        return np.arange(len(self) + 1, dtype=np.int64)

    @property
    def lengths(self) -> np.ndarray:
        """1 for each image, int64 (n,): batches of images need no length buckets."""
        return np.ones(len(self), np.int64)

    def take(self, rows: np.ndarray, length: int = 1) -> dict[str, np.ndarray]:
        """Returns the pixels and the fields of some examples.

        Args:
          rows: int64 (rows,), positions in the set; -1 is a padding row, which is black and not `valid`.
          length: not used.

        Returns:
          `pixel_values`, uint8 (rows, height, width, 3); the fields; `example_id`, int64 (rows,), -1 for padding; and
          `valid`, bool (rows,).

        Raises:
          TlxError: an image cannot be read; the message names its file or its row in the source.
        """
        valid = rows >= 0
        safe = np.where(valid, rows, 0)
        pixels = np.zeros((len(rows), self.reader.height, self.reader.width, 3), np.uint8)
        to_read = rows[valid].tolist()
        if self.threads == 1 or len(to_read) < 2 or self._cached[to_read].all():
            images = [self._read(row) for row in to_read]
        else:
            with ThreadPoolExecutor(min(self.threads, len(to_read))) as pool:
                images = list(pool.map(self._read, to_read))
        for position, image in zip(np.flatnonzero(valid), images, strict=True):
            pixels[position] = image
        return {
            "pixel_values": pixels,
            **{name: values[safe] for name, values in self.fields.items()},
            "example_id": np.where(valid, self.example_id[safe], -1),
            "valid": valid,
        }

    def _read(self, row: int) -> np.ndarray:
        if self._pixels is not None and self._cached[row]:
            return self._pixels[row]
        pixels = self.reader.pixels(self.images[row], f"{self.name}, row {self.example_id[row] + 1}")
        if self._pixels is not None:
            self._pixels[row] = pixels
            self._cached[row] = True  # set after the pixels, because other threads check this first
        return pixels

    @property
    def labels(self) -> np.ndarray:
        """The labels, (n, …)."""
        return self.fields["label"]

    @property
    def words(self) -> None:
        """None: images have no words."""

    @property
    def spans(self) -> None:
        """None: no question is asked about a context."""

    def content(self) -> Iterator[bytes]:
        """The bytes that identify the set: the SHA-256 of each stored image, the rows in the source, and the fields."""
        for row in range(len(self)):
            yield fingerprint(self.images[row]).encode()
        for array in (self.example_id, *self.fields.values()):
            yield np.ascontiguousarray(array).tobytes()
