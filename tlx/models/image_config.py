"""The base class of image encoders' configs: the size of images and of patches."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from tlx.errors import TlxError
from tlx.models.activations import check_activation
from tlx.models.config import BackboneConfig
from tlx.models.heads import PER_TEXT, HeadSettings


@dataclasses.dataclass(frozen=True)
class ImageConfig(BackboneConfig):
    """Base class of the configs of image families; further fields are those of their Hugging Face configs.

    Attributes:
      special_tokens: the number of tokens before the patches, such as the class token.
      image_size: the size of images in pixels: one number, or (height, width).
      patch_size: the size of patches in pixels: one number, or (height, width).
    """

    modality: ClassVar[str] = "image"
    layer_decay_convention: ClassVar[str] = "timm"
    neutral: ClassVar[Mapping[str, tuple[Any, ...]]] = {**BackboneConfig.neutral, "head_dim": (None,)}

    special_tokens: ClassVar[int] = 1

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    image_size: int | tuple[int, ...] = 224
    patch_size: int | tuple[int, ...] = 16
    num_channels: int = 3
    qkv_bias: bool = True
    encoder_stride: int = 16
    pooler_output_size: int | None = None
    pooler_act: str = "tanh"
    add_pooling_layer: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_activation(self.pooler_act)
        for name in ("image_size", "patch_size"):
            value = getattr(self, name)
            if isinstance(value, tuple) and len(value) != 2:
                raise TlxError(
                    f"{name} is {value} in this {self.family} config; it is one number, or height and width."
                )
        if min(self.grid) < 1:
            raise TlxError(f"an image of {self.image_size} pixels is smaller than a patch of {self.patch_size}.")

    @classmethod
    def from_hf(cls, config: Mapping[str, Any], **changes: Any) -> Self:
        """Creates a config as `BackboneConfig.from_hf` does; lists in the file become tuples."""
        values = {key: tuple(value) if isinstance(value, list) else value for key, value in config.items()}
        return super().from_hf(values, **changes)

    @property
    def image(self) -> tuple[int, int]:
        """The size of images, (height, width) in pixels."""
        return pair(self.image_size)

    @property
    def patch(self) -> tuple[int, int]:
        """The size of patches, (height, width) in pixels."""
        return pair(self.patch_size)

    @property
    def grid(self) -> tuple[int, int]:
        """The number of patches of an image, (rows, columns)."""
        return self.grid_of(*self.image)

    def grid_of(self, height: int, width: int) -> tuple[int, int]:
        """Returns the number of patches of an image of this size, without pixels left at the lower and right edges."""
        return height // self.patch[0], width // self.patch[1]

    @property
    def head_settings(self) -> HeadSettings:
        """Heads read the class token after the final layer norm."""
        return HeadSettings(kinds=PER_TEXT, pooled_by="cls", initializer_range=self.initializer_range)


def pair(size: int | tuple[int, ...]) -> tuple[int, int]:
    """Returns a size as (height, width); one number is used for both."""
    return (size, size) if isinstance(size, int) else (size[0], size[1])
