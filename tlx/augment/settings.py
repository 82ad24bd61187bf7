"""What augmentation does, as plain values, and the usual recipes by name."""

import dataclasses
import math

from tlx.augment.crop import KERNELS
from tlx.augment.geometry import WARPS
from tlx.augment.mixing import PER
from tlx.errors import TlxError

Range = tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Every operation is off unless it is asked for. They run in the order of the fields.

    Attributes:
      crop: shares of the area (lowest, highest) of a random resized crop; (): none. The image keeps its size.
      ratio: width / height of that crop.
      interpolation: of that crop, `bilinear` or `bicubic`.
      pad: pixels of padding, of which a crop of the image's size is cut; not together with `crop`.
      flip, vertical_flip: probabilities.
      rotate, shear: degrees, drawn from ±.
      translate: of width and height, drawn from ±.
      zoom: (lowest, highest) factor of the size, or ().
      warp: how rotate … zoom and RandAugment resample, `nearest` or `bilinear`.
      fill: what they, and `pad`, put where there is no image, in [0, 1].
      randaugment_ops, randaugment_magnitude, randaugment_spread, randaugment_probability: as in `randaugment`.
      brightness, contrast, saturation, hue: as in `color_jitter`.
      grey: probability of greyscale.
      erase: probability of random erasing.
      erase_scale, erase_ratio, erase_fill: as in `random_erasing`.
      mixup, cutmix: α of Beta(α, α).
      switch: the probability of CutMix where both are on.
      mix_per: one λ per `batch` or per `example`.
    """

    crop: Range = ()
    ratio: Range = (3 / 4, 4 / 3)
    interpolation: str = "bilinear"
    pad: int = 0
    flip: float = 0.0
    vertical_flip: float = 0.0
    rotate: float = 0.0
    shear: float = 0.0
    translate: float = 0.0
    zoom: Range = ()
    warp: str = "nearest"
    fill: float = 0.0
    randaugment_ops: int = 0
    randaugment_magnitude: float = 9.0
    randaugment_spread: float = 0.0
    randaugment_probability: float = 1.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    grey: float = 0.0
    erase: float = 0.0
    erase_scale: Range = (0.02, 1 / 3)
    erase_ratio: Range = (0.3, 1 / 0.3)
    erase_fill: float | None = None
    mixup: float = 0.0
    cutmix: float = 0.0
    switch: float = 0.5
    mix_per: str = "batch"

    def __post_init__(self) -> None:
        for name in ("crop", "ratio", "zoom", "erase_scale", "erase_ratio"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in (
            "flip",
            "vertical_flip",
            "randaugment_probability",
            "grey",
            "erase",
            "switch",
            "translate",
            "fill",
        ):
            self._within(name, 0, 1)
        for name in ("brightness", "contrast", "saturation", "mixup", "cutmix", "randaugment_spread"):
            self._within(name, 0, math.inf)
        self._within("rotate", 0, 180)
        self._within("shear", 0, 89)
        self._within("hue", 0, 0.5)
        self._within("randaugment_magnitude", 0, 30)
        if self.erase_fill is not None:
            self._within("erase_fill", 0, 1)
        for name in ("crop", "erase_scale"):
            self._range(name, 1.0)
        for name in ("ratio", "zoom", "erase_ratio"):
            self._range(name, math.inf)
        for name in ("ratio", "erase_scale", "erase_ratio"):
            if not getattr(self, name):
                raise TlxError(f"augmentation.{name} is (); give (lowest, highest).")
        for name in ("pad", "randaugment_ops"):
            if type(getattr(self, name)) is not int or getattr(self, name) < 0:
                raise TlxError(f"augmentation.{name} is {getattr(self, name)!r}; give a whole number from 0.")
        for name, known in (("interpolation", KERNELS), ("warp", WARPS), ("mix_per", PER)):
            if getattr(self, name) not in known:
                raise TlxError(f"augmentation.{name} is {getattr(self, name)!r}; tlx has {', '.join(known)}.")
        if self.crop and self.pad:
            raise TlxError(f"augmentation.crop is {self.crop} and augmentation.pad {self.pad}; choose one of the two.")

    def _within(self, name: str, low: float, high: float) -> None:
        value = getattr(self, name)
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not (low <= value <= high)
            or value == math.inf
        ):
            limit = f"from {low} to {high}" if high < math.inf else f"from {low} on"
            raise TlxError(f"augmentation.{name} is {value!r}; give a number {limit}.")

    def _range(self, name: str, high: float) -> None:
        value = getattr(self, name)
        if value and not (len(value) == 2 and 0 < value[0] <= value[1] <= high and value[1] < math.inf):
            limit = f" ≤ {high:g}" if high < math.inf else ""
            raise TlxError(
                f"augmentation.{name} is {value!r}; give (lowest, highest) with 0 < lowest ≤ highest{limit}."
            )


PRESETS: dict[str, Augmentation] = {
    "none": Augmentation(),
    # He et al. 2016, 4.2, for CIFAR.
    "flip_crop": Augmentation(pad=4, flip=0.5),
    # Szegedy et al. 2015, 6, as torchvision's training references.
    "inception": Augmentation(crop=(0.08, 1.0), flip=0.5),
    # The same with Cubuk et al. 2020 at torchvision's defaults.
    "randaugment": Augmentation(crop=(0.08, 1.0), flip=0.5, randaugment_ops=2, randaugment_magnitude=9.0),
    # Touvron et al. 2021, table 9. Magnitude 9 ± 0.5 is of timm's 10, so 27 ± 1.5 of 30, and timm applies a drawn
    # operation with probability 0.5; the operations and their ranges stay torchvision's.
    "deit": Augmentation(
        crop=(0.08, 1.0),
        interpolation="bicubic",
        flip=0.5,
        warp="bilinear",
        fill=0.5,
        randaugment_ops=2,
        randaugment_magnitude=27.0,
        randaugment_spread=1.5,
        randaugment_probability=0.5,
        erase=0.25,
        mixup=0.8,
        cutmix=1.0,
    ),
}


def preset(name: str) -> Augmentation:
    """The recipe of that name."""
    if name not in PRESETS:
        raise TlxError(f"augmentation is {name!r}; tlx has {', '.join(PRESETS)}.")
    return PRESETS[name]
