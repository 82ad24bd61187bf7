"""The augmentation operations and the table of them, in the order in which they run.

This file defines their settings. The computations are in `crop.py`, `geometry.py`, `color.py`, `randaugment.py` and
`erase.py`.
"""

import dataclasses

import dm_pix
import jax

from tlx.augment.color import color_jitter, greyscale
from tlx.augment.crop import KERNELS, random_padded_crop, random_resized_crop
from tlx.augment.erase import random_erasing
from tlx.augment.geometry import WARPS, random_affine
from tlx.augment.operation import Operation, integer, interval, maybe, number, one_of
from tlx.augment.randaugment import randaugment


@dataclasses.dataclass(frozen=True)
class ResizedCrop(Operation):
    """Crops a random box and resizes it to the size of the image.

    Attributes:
      crop: (lowest, highest) fraction of the area; (): no crop.
      ratio: (lowest, highest) width / height of the box.
      interpolation: `bilinear` or `bicubic`.
    """

    crop: tuple[float, ...] = interval((), high=1)
    ratio: tuple[float, ...] = interval((3 / 4, 4 / 3))
    interpolation: str = one_of(KERNELS, "bilinear")

    @property
    def on(self) -> bool:
        return bool(self.crop)

    def __call__(self, key: jax.Array, image: jax.Array) -> jax.Array:
        size = (image.shape[0], image.shape[1])
        return random_resized_crop(key, image, size, self.crop, self.ratio, self.interpolation)


@dataclasses.dataclass(frozen=True)
class PaddedCrop(Operation):
    """Pads the image and crops it to its size at a random position.

    Attributes:
      pad: the number of pixels of padding on each side.
      fill: the value of the padding, in [0, 1].
    """

    pad: int = integer(0)
    fill: float = number(0.0, 0, 1)

    @property
    def on(self) -> bool:
        return self.pad > 0

    def __call__(self, key: jax.Array, image: jax.Array) -> jax.Array:
        return random_padded_crop(key, image, self.pad, self.fill)


@dataclasses.dataclass(frozen=True)
class Flip(Operation):
    """Flips the image horizontally.

    Attributes:
      flip: the probability.
    """

    flip: float = number(0.0, 0, 1)

    @property
    def on(self) -> bool:
        return self.flip > 0

    def __call__(self, key: jax.Array, image: jax.Array) -> jax.Array:
        return maybe(key, self.flip, dm_pix.flip_left_right(image), image)


@dataclasses.dataclass(frozen=True)
class VerticalFlip(Operation):
    """Flips the image vertically.

    Attributes:
      vertical_flip: the probability.
    """

    vertical_flip: float = number(0.0, 0, 1)

    @property
    def on(self) -> bool:
        return self.vertical_flip > 0

    def __call__(self, key: jax.Array, image: jax.Array) -> jax.Array:
        return maybe(key, self.vertical_flip, dm_pix.flip_up_down(image), image)


@dataclasses.dataclass(frozen=True)
class Affine(Operation):
    """Applies a random affine map (`tlx.augment.geometry.random_affine`).

    Attributes:
      rotate: the largest rotation in degrees, in both directions.
      shear: the largest shear in degrees, in both directions.
      translate: the largest translation as a fraction of width and height, in both directions.
      zoom: (lowest, highest) magnification; (): none.
      warp: the interpolation, `nearest` or `bilinear`; also used by RandAugment.
      fill: the value outside the image, in [0, 1]; also used by RandAugment and `pad`.
    """

    rotate: float = number(0.0, 0, 180)
    shear: float = number(0.0, 0, 89)
    translate: float = number(0.0, 0, 1)
    zoom: tuple[float, ...] = interval(())
    warp: str = one_of(WARPS, "nearest")
    fill: float = number(0.0, 0, 1)

    @property
    def on(self) -> bool:
        return self.rotate > 0 or self.shear > 0 or self.translate > 0 or bool(self.zoom)

    def __call__(self, key: jax.Array, image: jax.Array) -> jax.Array:
        return random_affine(key, image, self.rotate, self.translate, self.zoom, self.shear, self.warp, self.fill)


@dataclasses.dataclass(frozen=True)
class RandAugment(Operation):
    """Applies `tlx.augment.randaugment.randaugment`; the settings are that function's arguments."""

    randaugment_ops: int = integer(0)
    randaugment_magnitude: float = number(9.0, 0, 30)
    randaugment_spread: float = number(0.0)
    randaugment_probability: float = number(1.0, 0, 1)
    warp: str = one_of(WARPS, "nearest")
    fill: float = number(0.0, 0, 1)

    @property
    def on(self) -> bool:
        return self.randaugment_ops > 0

    def __call__(self, key: jax.Array, image: jax.Array) -> jax.Array:
        magnitude, spread = self.randaugment_magnitude, self.randaugment_spread
        return randaugment(
            key, image, self.randaugment_ops, magnitude, spread, self.randaugment_probability, self.warp, self.fill
        )


@dataclasses.dataclass(frozen=True)
class ColorJitter(Operation):
    """Applies `tlx.augment.color.color_jitter`; the settings are that function's arguments."""

    brightness: float = number(0.0)
    contrast: float = number(0.0)
    saturation: float = number(0.0)
    hue: float = number(0.0, 0, 0.5)

    @property
    def on(self) -> bool:
        return max(self.brightness, self.contrast, self.saturation, self.hue) > 0

    def __call__(self, key: jax.Array, image: jax.Array) -> jax.Array:
        return color_jitter(key, image, self.brightness, self.contrast, self.saturation, self.hue)


@dataclasses.dataclass(frozen=True)
class Grey(Operation):
    """Converts the image to greyscale.

    Attributes:
      grey: the probability.
    """

    grey: float = number(0.0, 0, 1)

    @property
    def on(self) -> bool:
        return self.grey > 0

    def __call__(self, key: jax.Array, image: jax.Array) -> jax.Array:
        return maybe(key, self.grey, greyscale(image), image)


@dataclasses.dataclass(frozen=True)
class Erase(Operation):
    """Erases a random box (`tlx.augment.erase.random_erasing`).

    Attributes:
      erase: the probability.
      erase_scale: (lowest, highest) fraction of the area.
      erase_ratio: (lowest, highest) width / height of the box.
      erase_fill: the value of the box, in [0, 1]; None: uniform noise.
    """

    erase: float = number(0.0, 0, 1)
    erase_scale: tuple[float, ...] = interval((0.02, 1 / 3), high=1)
    erase_ratio: tuple[float, ...] = interval((0.3, 1 / 0.3))
    erase_fill: float | None = number(None, 0, 1)

    @property
    def on(self) -> bool:
        return self.erase > 0

    def __call__(self, key: jax.Array, image: jax.Array) -> jax.Array:
        return random_erasing(key, image, self.erase, self.erase_scale, self.erase_ratio, self.erase_fill)


# The number selects the operation's stream of random numbers. It does not depend on the order of the table, so a new
# operation does not change the random numbers of the others.
OPERATIONS: dict[str, tuple[int, type[Operation]]] = {
    "resized_crop": (0, ResizedCrop),
    "padded_crop": (1, PaddedCrop),
    "flip": (2, Flip),
    "vertical_flip": (3, VerticalFlip),
    "affine": (4, Affine),
    "randaugment": (5, RandAugment),
    "color_jitter": (6, ColorJitter),
    "grey": (7, Grey),
    "erase": (8, Erase),
}
