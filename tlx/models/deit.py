"""DeiT (Touvron et al. 2021): ViT with a distillation token, which was trained to predict a teacher's labels."""

import dataclasses

from tlx.models import published_names
from tlx.models.heads import HeadSettings
from tlx.models.image_config import ImageConfig
from tlx.models.vit import ViT


@dataclasses.dataclass(frozen=True)
class DeiTConfig(ImageConfig):
    """The config of DeiT; the fields are those of `ImageConfig`."""

    model_type = "deit"
    family = "DeiT"
    names = published_names.DEIT
    special_tokens = 2

    @property
    def head_settings(self) -> HeadSettings:
        """The settings of ViT's heads; a head may also read the distillation token."""
        return dataclasses.replace(super().head_settings, distilled=True)


class DeiT(ViT):
    """The backbone of DeiT; `config` is a `DeiTConfig`."""

    tokens = ("cls_token", "distillation_token")
