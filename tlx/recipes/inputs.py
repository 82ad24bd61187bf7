"""Opens the modality of a run, which reads its inputs, from the config."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tlx.augment.masking import Masking
from tlx.augment.settings import Augmentation, preset
from tlx.modalities.api import InputSettings, Modality
from tlx.modalities.open import open_modality

MASKED = "masked_lm"


def open_inputs(folder: Path, config: Mapping[str, Any]) -> Modality:
    """Opens the modality of a checkpoint: its tokenizer or image processor with the config's settings.

    Args:
      folder: the checkpoint's folder, or the folder `pretrained` of a run.
      config: the run's config, or that of a finished run as plain values.
    """
    data, model = config["data"], config["model"]
    return open_modality(
        folder,
        InputSettings(
            max_length=data["max_length"],
            stride=data.get("stride"),
            image_size=model.get("image_size"),
            augmentation=augmentation(config.get("augment", {})),
            masking=Masking(**dict(config.get("masking") or {})),
            masked_tasks=masked_tasks(config),
        ),
    )


def masked_tasks(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the names of the tasks of masked language modelling; `default` is that of a run without tasks."""
    own = config["head"]["kind"]
    tasks: Mapping[str, Any] = config.get("tasks") or {"default": {}}
    kinds = {name: (task.get("head") or {}).get("kind", own) for name, task in tasks.items()}
    return tuple(name for name, kind in kinds.items() if kind == MASKED)


def augmentation(config: Mapping[str, Any]) -> Augmentation:
    """Returns the preset of `config.augment` with the fields that differ from their defaults."""
    defaults = Augmentation().to_dict()
    fields = {name: value for name, value in config.items() if name != "preset"}
    changed = {name: value for name, value in fields.items() if name not in defaults or value != defaults[name]}
    return preset(config.get("preset", "none")).replace(**changed)
