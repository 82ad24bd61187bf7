"""Opens the modality of a checkpoint's family."""

from pathlib import Path

from tlx.augment.settings import Augmentation
from tlx.errors import TlxError
from tlx.modalities.api import InputSettings, Modality
from tlx.modalities.image import Images
from tlx.modalities.text import Texts
from tlx.models.model import FAMILIES
from tlx.pretrained.folder import read_config

# `modality` of a family's config -> its class
MODALITIES: dict[str, type[Modality]] = {"text": Texts, "image": Images}


def open_modality(folder: Path, settings: InputSettings | None = None) -> Modality:
    """Opens the modality that encodes inputs for a checkpoint.

    A checkpoint of a family that tlx does not support gets the modality for texts, so that a script can train a module
    of its own with the checkpoint's tokenizer.

    Args:
      folder: the checkpoint's folder.
      settings: settings that override the checkpoint's; None: no setting is overridden.

    Raises:
      TlxError: the files are missing or damaged; the modality does not support one of the settings.
    """
    settings = settings or InputSettings()
    family = FAMILIES.get(read_config(folder)["model_type"])
    modality = MODALITIES["text" if family is None else family[0].modality]
    if not modality.augments and settings.augmentation != Augmentation():
        raise TlxError(f"config.augment is of images; this checkpoint takes {modality.plural}.")
    return modality.open(folder, settings)
