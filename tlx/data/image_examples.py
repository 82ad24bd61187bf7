"""Images as examples: read, resized and cropped when a batch asks for them, in threads, and kept where they fit."""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np

from tlx.data.images import fingerprint

CACHE_BYTES = 2**30


class PixelReader(Protocol):
    """What makes an image, however it is stored, the bytes that a model's input is computed from."""

    height: int
    width: int

    def pixels(self, image: Any, where: str) -> np.ndarray:
        """uint8 (height, width, 3). where: the image's name in messages. Called from several threads at once."""


class ImageExamples:
    """A set of images.

    Args:
      images: paths, encoded bytes or arrays, read one at a time; a list, an array or a `Lazy` column.
      reader: what makes pixels of them.
      fields: per-example arrays by name, such as `label`, (n, …).
      example_id: int64 (n,), the row in the source.
      name: the source's, for messages.
      threads: that read the images of one batch; None: one for each core. What they read does not depend on it.
      cache_bytes: if the pixels of all images fit into so many bytes, each is read once and its pixels are kept, which
        takes n · height · width · 3 bytes; else none is. 0 keeps none.
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
        self._known = np.zeros(len(images), bool)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def offsets(self) -> np.ndarray:
        """int64 (n + 1,): an image is one token long."""
        return np.arange(len(self) + 1, dtype=np.int64)

    @property
    def lengths(self) -> np.ndarray:
        """1 for each image: batches of images need no ladder."""
        return np.ones(len(self), np.int64)

    def take(self, rows: np.ndarray, length: int = 1) -> dict[str, np.ndarray]:
        """`pixel_values`, uint8 (rows, height, width, 3), and the fields of these rows; a row of -1 is black and not
        `valid`. length: not used.

        Raises:
          TlxError: an image that cannot be read, named by its file or its row in the source.
        """
        valid = rows >= 0
        safe = np.where(valid, rows, 0)
        pixels = np.zeros((len(rows), self.reader.height, self.reader.width, 3), np.uint8)
        asked = rows[valid].tolist()
        if self.threads == 1 or len(asked) < 2 or self._known[asked].all():
            found = [self._read(row) for row in asked]
        else:
            with ThreadPoolExecutor(min(self.threads, len(asked))) as pool:
                found = list(pool.map(self._read, asked))
        for position, image in zip(np.flatnonzero(valid), found, strict=True):
            pixels[position] = image
        return {
            "pixel_values": pixels,
            **{name: values[safe] for name, values in self.fields.items()},
            "example_id": np.where(valid, self.example_id[safe], -1),
            "valid": valid,
        }

    def _read(self, row: int) -> np.ndarray:
        if self._pixels is not None and self._known[row]:
            return self._pixels[row]
        found = self.reader.pixels(self.images[row], f"{self.name}, row {self.example_id[row] + 1}")
        if self._pixels is not None:
            self._pixels[row] = found
            self._known[row] = True  # after the pixels, for other threads look here first
        return found

    @property
    def labels(self) -> np.ndarray:
        """What the answers are compared with: (n, …)."""
        return self.fields["label"]

    @property
    def words(self) -> None:
        """An image has no words."""

    def content(self) -> Iterator[bytes]:
        """What identifies the set: of each image the SHA-256 of its bytes as they are stored, the rows, the fields."""
        for row in range(len(self)):
            yield fingerprint(self.images[row]).encode()
        for array in (self.example_id, *self.fields.values()):
            yield np.ascontiguousarray(array).tobytes()
