"""Which modality a checkpoint's family has."""

from pathlib import Path

from tlx.augment.settings import Augmentation
from tlx.errors import TlxError
from tlx.modalities.api import Modality, Settings
from tlx.modalities.image import Images
from tlx.modalities.text import Texts
from tlx.models.model import FAMILIES
from tlx.pretrained.folder import read_config

# `modality` of a family's config -> its class
MODALITIES: dict[str, type[Modality]] = {"text": Texts, "image": Images}


def open_modality(folder: Path, settings: Settings | None = None) -> Modality:
    """What reads inputs as the checkpoint in `folder` takes them; one of a family that tlx lacks reads texts, which a
    module of a script's own may learn from. settings: None: all as the checkpoint says.

    Raises:
      TlxError: its files are missing or damaged; a setting that its modality does not have.
    """
    settings = settings or Settings()
    family = FAMILIES.get(read_config(folder)["model_type"])
    chosen = MODALITIES["text" if family is None else family[0].modality]
    if not chosen.augments and settings.augmentation != Augmentation():
        raise TlxError(f"config.augment is of images; this checkpoint takes {chosen.plural}.")
    return chosen.open(folder, settings)
