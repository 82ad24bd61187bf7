"""DeiT (Touvron et al. 2021): ViT with a second token, which learnt from a teacher."""

import dataclasses

from tlx.models import published_names
from tlx.models.heads import HeadSettings
from tlx.models.image_config import ImageConfig
from tlx.models.vit import ViT


@dataclasses.dataclass(frozen=True)
class DeiTConfig(ImageConfig):
    """As in `ImageConfig`."""

    model_type = "deit"
    family = "DeiT"
    names = published_names.DEIT
    special_tokens = 2

    @property
    def head_settings(self) -> HeadSettings:
        """As ViT's; a head may read the distillation token too."""
        return dataclasses.replace(super().head_settings, distilled=True)


class DeiT(ViT):
    """The backbone; `config` is a `DeiTConfig`."""

    tokens = ("cls_token", "distillation_token")
