"""A checkpoint's image processor, which computes the same values as transformers' processors that use Pillow.

It works in two steps, so that training is fast: `pixels` resizes and crops on the CPU and returns uint8; rescaling and
normalizing are `pixels * scale + offset`, which is computed on the device.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tlx.data.images import MOST_PIXELS, open_rgb
from tlx.errors import TlxError
from tlx.files.strict_json import read_json
from tlx.pretrained.formats.safe import inside
from tlx.pretrained.image_settings import FILE, ImageSettings, at_size, parse_settings

BAND = 256  # rows of a large image that are processed at once


class ImageProcessor:
    """The image processor that a folder's `preprocessor_config.json` describes.

    Args:
      folder: the checkpoint's folder.
      size: the height of the resulting images in pixels; resizing and cropping keep their proportion. None: the
        checkpoint's.

    Attributes:
      folder: as above.
      settings: the checked settings.
      scale: float32 (3,); the model's input is `pixels * scale + offset`.
      offset: float32 (3,), see `scale`.
      height: the height of the resulting images in pixels.
      width: the width of the resulting images in pixels.

    Raises:
      TlxError: the file is missing, or needs a step that tlx does not support.
    """

    def __init__(self, folder: Path, size: int | None = None):
        self.folder = Path(folder)
        self._config = read_settings(self.folder)
        if size is not None:
            self._config = at_size(self.folder / FILE, self._config, size)
        self.settings: ImageSettings = parse_settings(self.folder / FILE, self._config)
        self.height, self.width = self.settings.size
        # transformers stores mean and standard deviation in float32
        mean, std = (np.array(x, np.float32).astype(np.float64) for x in (self.settings.mean, self.settings.std))
        self.scale: np.ndarray = (self.settings.rescale / std).astype(np.float32)
        self.offset: np.ndarray = (-mean / std).astype(np.float32)

    def pixels(self, image: Any, where: str = "the image") -> np.ndarray:
        """Reads, resizes and crops one image.

        Args:
          image: a path, encoded bytes or an array, as for `tlx.data.images.read_rgb`.
          where: the image's name in messages, if it is not a file.

        Returns:
          uint8 (height, width, 3).

        Raises:
          TlxError: the image cannot be read; or it has another size and the checkpoint does not resize.
        """
        with open_rgb(image, where) as picture:
            where = where if isinstance(image, (bytes, np.ndarray)) else str(image)
            if self.settings.convert_rgb and picture.info.get("transparency") is not None:
                picture = _on_white(picture)
            if self.settings.resize is not None:
                picture = self._resized(picture, where)
            if self.settings.crop is not None:
                picture = _cropped(picture, *self.settings.crop)
            pixels = np.asarray(picture)
        if pixels.shape[:2] != self.settings.size:
            raise TlxError(
                f"{where} has {picture.height} × {picture.width} pixels, and {self.folder / FILE} neither resizes nor"
                f" crops: expected {self.height} × {self.width}."
            )
        return pixels

    def _resized(self, image: Image.Image, where: str) -> Image.Image:
        size = self.settings.resize
        if isinstance(size, int):
            short, long = sorted(image.size)
            length = int(size * long / short)
            if size * length > MOST_PIXELS:
                raise TlxError(
                    f"{where} of {image.height} × {image.width} pixels is too long for its width: with its shorter edge"
                    f" resized to {size} it would have {size * length} pixels; crop it."
                )
            size = (length, size) if image.width <= image.height else (size, length)
        assert size is not None
        return image.resize((size[1], size[0]), Image.Resampling(self.settings.resample))

    def __call__(self, images: Sequence[Any]) -> np.ndarray:
        """Makes the model's inputs from images, float32 (images, height, width, 3)."""
        pixels = [self.pixels(image, f"image {number}") for number, image in enumerate(images, 1)]
        stacked = np.stack(pixels) if pixels else np.zeros((0, self.height, self.width, 3), np.uint8)
        return stacked.astype(np.float32) * self.scale + self.offset

    def inputs(self, images: Any) -> dict[str, np.ndarray]:
        """Makes the model's inputs from images, in the layout of Hugging Face's processors.

        Args:
          images: one image or several; one image (a path, bytes, or an array of two or three dimensions) is a batch of
            one.

        Returns:
          `pixel_values`, float32 (images, 3, height, width).

        Raises:
          TlxError: there are no images, or a value is not an image.
        """
        one = isinstance(images, (str, bytes, os.PathLike)) or getattr(images, "ndim", 0) in (2, 3)
        batch = [images] if one else images
        if batch is None or isinstance(batch, dict) or not hasattr(batch, "__len__"):
            raise TlxError(f"an image or a list of images was expected, found {type(images).__name__}.")
        if not len(batch):
            raise TlxError("there are no images; give at least one.")
        for number, image in enumerate(batch):
            if not isinstance(image, (str, bytes, os.PathLike, np.ndarray)):
                raise TlxError(f"image {number} is a {type(image).__name__}; expected a path, bytes or an array.")
        return {"pixel_values": np.ascontiguousarray(self(batch).transpose(0, 3, 1, 2))}

    def save(self, folder: Path) -> None:
        """Writes `preprocessor_config.json`, with this processor's image size, into an existing folder."""
        (Path(folder) / FILE).write_text(json.dumps(self._config, indent=2) + "\n", encoding="utf-8")


def _on_white(image: Image.Image) -> Image.Image:
    """Returns the image in RGB with its transparent colour replaced by white.

    It is processed in bands of rows, because otherwise four copies of a large image would be in memory.
    """
    result = Image.new("RGB", image.size)
    for top in range(0, image.height, BAND):
        box = (0, top, image.width, min(top + BAND, image.height))
        band = image.crop(box).convert("RGBA")
        result.paste(Image.alpha_composite(Image.new("RGBA", band.size, "white"), band).convert("RGB"), box)
    return result


def _cropped(image: Image.Image, height: int, width: int) -> Image.Image:
    """Returns the centre crop of an image; a smaller image is padded with black."""
    top, left = (image.height - height) // 2, (image.width - width) // 2
    return image.crop((left, top, left + width, top + height))


def read_settings(folder: Path) -> dict[str, Any]:
    """Returns the image processor's config from `processor_config.json` or `preprocessor_config.json`.

    Raises:
      TlxError: the folder has neither file, or the file is not a JSON object.
    """
    for name, key in (("processor_config.json", "image_processor"), (FILE, None)):
        file = inside(folder, name)
        if not file.is_file():
            continue
        config = read_json(file, "image processor's config")
        if key is None or isinstance(config.get(key), dict):
            return config if key is None else config[key]
    raise TlxError(f"{folder} holds no {FILE}, which describes how images are prepared; copy it from the checkpoint.")
