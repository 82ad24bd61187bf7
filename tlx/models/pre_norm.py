"""The pre-norm transformer block of ViT and DeiT, and their pooler (Dosovitskiy et al. 2021, 3.1).

Module names are those of Hugging Face's Flax checkpoints.
"""

from typing import Any

import jax
from flax import linen as nn

from tlx.models.activations import ACTIVATIONS
from tlx.models.layers import Dropout, DropPath, Dtype, dense, fusion_barrier, layer_norm
from tlx.models.transformer import Intermediate, SelfAttention


class OutputProjection(nn.Module):
    """Dropout(W x + b), the output projection of both halves of a block, before the residual is added."""

    config: Any
    dtype: Dtype = None

    @nn.compact
    def __call__(self, x: jax.Array, deterministic: bool) -> jax.Array:
        x = dense(self.config.hidden_size, "dense", self.dtype, self.config.initializer_range)(x)
        return Dropout(self.config.hidden_dropout_prob)(x, deterministic)


class Attention(nn.Module):
    """Self-attention and its output projection, as two modules because checkpoints name both."""

    config: Any
    dtype: Dtype = None

    @nn.compact
    def __call__(self, x: jax.Array, deterministic: bool) -> tuple[jax.Array, jax.Array | None]:
        mixed, weights = SelfAttention(self.config, self.dtype, name="attention")(x, None, deterministic)
        return OutputProjection(self.config, self.dtype, name="output")(mixed, deterministic), weights


class Block(nn.Module):
    """x + Attention(LayerNorm(x)), then x + FeedForward(LayerNorm(x)) (Dosovitskiy et al. 2021, eqs. 2 and 3).

    Attributes:
      config: an `ImageConfig`.
      dtype: the dtype of the computation; None for the parameters' own.
      drop_path: the rate of stochastic depth, applied to each of the two branches.
    """

    config: Any
    dtype: Dtype = None
    drop_path: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, mask: None, deterministic: bool) -> tuple[jax.Array, jax.Array | None]:
        del mask  # every patch attends to all patches
        c = self.config
        normed = layer_norm("layernorm_before", self.dtype, c.layer_norm_eps)(x)
        mixed, weights = Attention(c, self.dtype, name="attention")(normed, deterministic)
        x = fusion_barrier(x + DropPath(self.drop_path)(mixed, deterministic))
        normed = layer_norm("layernorm_after", self.dtype, c.layer_norm_eps)(x)
        wide = Intermediate(c, self.dtype, name="intermediate")(normed)
        closed = OutputProjection(c, self.dtype, name="output")(wide, deterministic)
        return fusion_barrier(x + DropPath(self.drop_path)(closed, deterministic)), weights


class ImagePooler(nn.Module):
    """act(W x₀ + b), where x₀ is the class token."""

    config: Any
    dtype: Dtype = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        c = self.config
        size = c.pooler_output_size or c.hidden_size
        return ACTIVATIONS[c.pooler_act](dense(size, "dense", self.dtype, c.initializer_range)(x[:, 0]))
