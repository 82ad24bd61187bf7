"""ViT (Dosovitskiy et al. 2021): pre-norm blocks on patches and a class token, a final layer norm, a pooler."""

import dataclasses
from typing import Any, ClassVar

import jax

from tlx.models import published_names
from tlx.models.image import ImageBackbone
from tlx.models.image_config import ImageConfig
from tlx.models.layers import layer_norm
from tlx.models.patches import ImageEmbeddings
from tlx.models.pre_norm import Block, ImagePooler
from tlx.models.transformer import Encoder


@dataclasses.dataclass(frozen=True)
class ViTConfig(ImageConfig):
    """The config of ViT; the fields are those of `ImageConfig`."""

    model_type = "vit"
    family = "ViT"
    names = published_names.VIT


class ViT(ImageBackbone):
    """The backbone of ViT; `config` is an `ImageConfig`."""

    tokens: ClassVar[tuple[str, ...]] = ("cls_token",)

    def setup(self) -> None:
        self.embeddings = ImageEmbeddings(self.config, self.dtype, self.tokens)
        self.encoder = Encoder(self.config, self.dtype, Block)
        self.layernorm = layer_norm(None, self.dtype, self.config.layer_norm_eps)
        if self.config.add_pooling_layer:
            self.pooler = ImagePooler(self.config, self.dtype)

    def embed(self, pixels: jax.Array, interpolated: bool, deterministic: bool) -> jax.Array:
        x: jax.Array = self.embeddings(pixels, interpolated, deterministic)
        return x

    def block(
        self, index: int, x: jax.Array, mask: jax.Array | None, deterministic: bool
    ) -> tuple[jax.Array, jax.Array | None]:
        output_and_attention: tuple[jax.Array, jax.Array | None] = self.encoder(index, x, mask, deterministic)
        return output_and_attention

    def end(self, x: jax.Array) -> jax.Array:
        normed: jax.Array = self.layernorm(x)
        return normed

    def pool(self, x: jax.Array) -> Any:
        return self.pooler(x) if self.config.add_pooling_layer else None
