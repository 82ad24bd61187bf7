"""What augmentation does, as plain values, and the usual recipes by name."""

import dataclasses
from typing import Any

from tlx.augment.mixing import PER
from tlx.augment.operation import AugmentationSettings, Operation, number, one_of
from tlx.augment.operations import OPERATIONS
from tlx.errors import TlxError, listed


@dataclasses.dataclass(frozen=True)
class Mixing(AugmentationSettings):
    """How images of a batch are mixed.

    Attributes:
      mixup, cutmix: α of Beta(α, α); 0: off.
      switch: the probability of CutMix where both are on.
      mix_per: one λ per `batch` or per `example`.
    """

    mixup: float = number(0.0)
    cutmix: float = number(0.0)
    switch: float = number(0.5, 0, 1)
    mix_per: str = one_of(PER, "batch")

    @property
    def on(self) -> bool:
        """Whether any image is mixed."""
        return self.mixup > 0 or self.cutmix > 0


@dataclasses.dataclass(frozen=True, init=False)
class Augmentation:
    """Every operation is off unless it is asked for: `Augmentation(flip=0.5, pad=4)`.

    The settings are those of `tlx.augment.operations.OPERATIONS` and of `Mixing`, by their names.

    Attributes:
      operations: all of `OPERATIONS` in the order in which they run, each with the number of its stream of draws.
      mixing: what is done to the batch after that.

    Raises:
      TlxError: a setting that no operation has, or a value that it may not have.
    """

    operations: tuple[tuple[int, Operation], ...]
    mixing: Mixing

    def __init__(self, **settings: Any) -> None:
        kinds = [(stream, kind, _names(kind)) for stream, kind in OPERATIONS.values()]
        known = {name: None for _, _, names in kinds for name in names} | dict.fromkeys(_names(Mixing))
        if unknown := [name for name in settings if name not in known]:
            raise TlxError(f"augmentation has no setting {listed(unknown)}; it has {listed(known, most=len(known))}.")
        given = [(n, kind(**{name: settings[name] for name in names if name in settings})) for n, kind, names in kinds]
        mixing = Mixing(**{name: settings[name] for name in _names(Mixing) if name in settings})
        object.__setattr__(self, "operations", tuple(given))
        object.__setattr__(self, "mixing", mixing)
        found = self.to_dict()
        if found["crop"] and found["pad"]:
            raise TlxError(
                f"augmentation.crop is {found['crop']} and augmentation.pad {found['pad']}; choose one of the two."
            )

    def to_dict(self) -> dict[str, Any]:
        """Every setting by its name."""
        parts: list[AugmentationSettings] = [*(operation for _, operation in self.operations), self.mixing]
        return {name: value for part in parts for name, value in dataclasses.asdict(part).items()}

    def replace(self, **changes: Any) -> "Augmentation":
        """The same with other values of some settings."""
        return Augmentation(**{**self.to_dict(), **changes})


def _names(kind: type[AugmentationSettings]) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(kind))


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
