"""What reads a run's inputs, from its config."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tlx.augment.settings import Augmentation, preset
from tlx.modalities.api import Modality, Settings
from tlx.modalities.open import open_modality


def open_inputs(folder: Path, config: Mapping[str, Any]) -> Modality:
    """As the checkpoint in `folder` takes them. config: the run's, or a finished run's as plain values."""
    data, model = config["data"], config["model"]
    return open_modality(
        folder,
        Settings(
            max_length=data["max_length"],
            stride=data.get("stride"),
            image_size=model.get("image_size"),
            augmentation=augmentation(config.get("augment", {})),
        ),
    )


def augmentation(config: Mapping[str, Any]) -> Augmentation:
    """The preset, with what the config says otherwise than by default."""
    defaults = Augmentation().to_dict()
    said = {name: value for name, value in config.items() if name != "preset"}
    return preset(config.get("preset", "none")).replace(
        **{name: value for name, value in said.items() if name not in defaults or value != defaults[name]}
    )
