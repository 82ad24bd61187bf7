"""The settings of augmentation, and presets of published recipes."""

import dataclasses
from typing import Any

from tlx.augment.mixing import PER
from tlx.augment.operation import AugmentationSettings, Operation, number, one_of
from tlx.augment.operations import OPERATIONS
from tlx.errors import TlxError, listed


@dataclasses.dataclass(frozen=True)
class Mixing(AugmentationSettings):
    """The settings of mixup and CutMix.

    Attributes:
      mixup: α of Beta(α, α) for mixup; 0: off.
      cutmix: α of Beta(α, α) for CutMix; 0: off.
      switch: the probability of CutMix if both are on.
      mix_per: whether λ is sampled per `batch` or per `example`.
    """

    mixup: float = number(0.0)
    cutmix: float = number(0.0)
    switch: float = number(0.5, 0, 1)
    mix_per: str = one_of(PER, "batch")

    @property
    def on(self) -> bool:
        """Whether mixup or CutMix is on."""
        return self.mixup > 0 or self.cutmix > 0


@dataclasses.dataclass(frozen=True, init=False)
class Augmentation:
    """All settings of augmentation, such as `Augmentation(flip=0.5, pad=4)`. By default every operation is off.

    The arguments are the settings of the operations in `tlx.augment.operations.OPERATIONS` and of `Mixing`.

    Attributes:
      operations: all operations in the order in which they run, each with the number of its stream of random numbers.
      mixing: the settings of mixup and CutMix, which come after the operations.

    Raises:
      TlxError: no operation has a setting of this name, or a value is not allowed.
    """

    operations: tuple[tuple[int, Operation], ...]
    mixing: Mixing

    def __init__(self, **settings: Any) -> None:
        kinds = [(stream, kind, _names(kind)) for stream, kind in OPERATIONS.values()]
        known = {name: None for _, _, names in kinds for name in names} | dict.fromkeys(_names(Mixing))
        if unknown := [name for name in settings if name not in known]:
            raise TlxError(f"augmentation has no setting {listed(unknown)}; it has {listed(known, most=len(known))}.")
        operations = [
            (stream, kind(**{name: settings[name] for name in names if name in settings}))
            for stream, kind, names in kinds
        ]
        mixing = Mixing(**{name: settings[name] for name in _names(Mixing) if name in settings})
        object.__setattr__(self, "operations", tuple(operations))
        object.__setattr__(self, "mixing", mixing)
        values = self.to_dict()
        if values["crop"] and values["pad"]:
            raise TlxError(
                f"augmentation.crop is {values['crop']} and augmentation.pad {values['pad']}; choose one of the two."
            )

    def to_dict(self) -> dict[str, Any]:
        """Returns all settings by name."""
        parts: list[AugmentationSettings] = [*(operation for _, operation in self.operations), self.mixing]
        return {name: value for part in parts for name, value in dataclasses.asdict(part).items()}

    def replace(self, **changes: Any) -> "Augmentation":
        """Returns a copy with these settings changed."""
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
    """Returns the preset of this name.

    Raises:
      TlxError: there is no such preset.
    """
    if name not in PRESETS:
        raise TlxError(f"augmentation is {name!r}; tlx has {', '.join(PRESETS)}.")
    return PRESETS[name]
