"""A checkpoint's image processor: images to what the model takes, as transformers' processors on Pillow do.

In two steps, so that training is fast: `pixels` resizes and crops on the CPU and stays in bytes; what is left,
rescaling and normalising, is `pixels * scale + offset` and belongs on the device.
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
from tlx.pretrained.image_settings import FILE, Settings, at_size, settings

BAND = 256  # rows of a large image worked on at once


class ImageProcessor:
    """What the folder's `preprocessor_config.json` says.

    Args:
      folder: of the checkpoint.
      size: the height of what comes out, where it shall be another than the checkpoint's; resizing and cropping keep
        their proportion.

    Attributes:
      scale, offset: float32 (3,): `pixels * scale + offset` is what the model takes.
      height, width: of what comes out.

    Raises:
      TlxError: the file is missing, or asks for what tlx does not do.
    """

    def __init__(self, folder: Path, size: int | None = None):
        self.folder = Path(folder)
        self._config = read_settings(self.folder)
        if size is not None:
            self._config = at_size(self.folder / FILE, self._config, size)
        self.settings: Settings = settings(self.folder / FILE, self._config)
        self.height, self.width = self.settings.size
        # transformers holds mean and deviation in float32
        mean, std = (np.array(x, np.float32).astype(np.float64) for x in (self.settings.mean, self.settings.std))
        self.scale: np.ndarray = (self.settings.rescale / std).astype(np.float32)
        self.offset: np.ndarray = (-mean / std).astype(np.float32)

    def pixels(self, image: Any, where: str = "the image") -> np.ndarray:
        """uint8 (height, width, 3): one image read, resized and cropped.

        Args:
          image: a path, encoded bytes or an array, as `tlx.data.images.read_rgb` takes it.
          where: the image's name in messages, where it is no file.

        Raises:
          TlxError: an image that cannot be read; one of another size, where the checkpoint does not resize.
        """
        with open_rgb(image, where) as found:
            where = where if isinstance(image, (bytes, np.ndarray)) else str(image)
            if self.settings.convert_rgb and found.info.get("transparency") is not None:
                found = _on_white(found)
            if self.settings.resize is not None:
                found = self._resized(found, where)
            if self.settings.crop is not None:
                found = _cropped(found, *self.settings.crop)
            pixels = np.asarray(found)
        if pixels.shape[:2] != self.settings.size:
            raise TlxError(
                f"{where} has {found.height} × {found.width} pixels, and {self.folder / FILE} neither resizes nor"
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
                    f" resized to {size} it would have {size * length} pixels; cut it."
                )
            size = (length, size) if image.width <= image.height else (size, length)
        assert size is not None
        return image.resize((size[1], size[0]), Image.Resampling(self.settings.resample))

    def __call__(self, images: Sequence[Any]) -> np.ndarray:
        """float32 (images, height, width, 3): what the model takes."""
        pixels = [self.pixels(image, f"image {number}") for number, image in enumerate(images, 1)]
        stacked = np.stack(pixels) if pixels else np.zeros((0, self.height, self.width, 3), np.uint8)
        return stacked.astype(np.float32) * self.scale + self.offset

    def inputs(self, images: Any) -> dict[str, np.ndarray]:
        """`pixel_values`, float32 (images, 3, height, width), as Hugging Face's processors give them.

        Args:
          images: one image or several; a single image (a path, bytes, an array of two or three
            dimensions) is a batch of one.

        Raises:
          TlxError: no images, or something that is none.
        """
        one = isinstance(images, (str, bytes, os.PathLike)) or getattr(images, "ndim", 0) in (2, 3)
        given = [images] if one else images
        if given is None or isinstance(given, dict) or not hasattr(given, "__len__"):
            raise TlxError(f"an image or a list of images was expected, found {type(images).__name__}.")
        if not len(given):
            raise TlxError("there are no images; give at least one.")
        for number, image in enumerate(given):
            if not isinstance(image, (str, bytes, os.PathLike, np.ndarray)):
                raise TlxError(f"image {number} is a {type(image).__name__}; expected a path, bytes or an array.")
        return {"pixel_values": np.ascontiguousarray(self(given).transpose(0, 3, 1, 2))}

    def save(self, folder: Path) -> None:
        """Writes `preprocessor_config.json`, with the size that is followed here, into a folder that exists."""
        (Path(folder) / FILE).write_text(json.dumps(self._config, indent=2) + "\n", encoding="utf-8")


def _on_white(image: Image.Image) -> Image.Image:
    """RGB, its transparent colour made white; in bands of rows, for four copies of a large image would be in memory."""
    made = Image.new("RGB", image.size)
    for top in range(0, image.height, BAND):
        box = (0, top, image.width, min(top + BAND, image.height))
        band = image.crop(box).convert("RGBA")
        made.paste(Image.alpha_composite(Image.new("RGBA", band.size, "white"), band).convert("RGB"), box)
    return made


def _cropped(image: Image.Image, height: int, width: int) -> Image.Image:
    """The middle of an image, with black about it where the image is smaller."""
    top, left = (image.height - height) // 2, (image.width - width) // 2
    return image.crop((left, top, left + width, top + height))


def read_settings(folder: Path) -> dict[str, Any]:
    """The content of the folder's `preprocessor_config.json`, or what `processor_config.json` holds in its place.

    Raises:
      TlxError: neither is there, or what is there is no JSON object.
    """
    for name, key in (("processor_config.json", "image_processor"), (FILE, None)):
        file = inside(folder, name)
        if not file.is_file():
            continue
        found = read_json(file, "image processor's config")
        if key is None or isinstance(found.get(key), dict):
            return found if key is None else found[key]
    raise TlxError(
        f"{folder} holds no {FILE}, so nothing says how its images are prepared; take it from the checkpoint."
    )
