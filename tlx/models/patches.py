"""Images to tokens: patches through a linear map, tokens of the model's own before them, positions.

Module names are those of Hugging Face's Flax checkpoints.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from tlx.models.interpolate import interpolate
from tlx.models.layers import Dropout, Dtype


class Projection(nn.Module):
    """A linear map of each patch: the convolution of the reference, whose stride is its size, as one product."""

    config: Any
    dtype: Dtype = None

    @nn.compact
    def __call__(self, pixels: jax.Array) -> jax.Array:
        """pixels: (batch, height, width, channels). Returns (batch, patches, hidden), row by row."""
        c = self.config
        (high, wide), (down, across) = c.patch, c.grid_of(*pixels.shape[1:3])
        shape = (high, wide, c.num_channels, c.hidden_size)
        kernel = self.param("kernel", nn.initializers.truncated_normal(c.initializer_range), shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (c.hidden_size,), jnp.float32)
        dtype = self.dtype or kernel.dtype
        x = pixels[:, : down * high, : across * wide].astype(dtype)
        x = x.reshape(-1, down, high, across, wide, c.num_channels).transpose(0, 1, 3, 2, 4, 5)
        x = x.reshape(-1, down * across, high * wide * c.num_channels)
        return x @ kernel.reshape(-1, c.hidden_size).astype(dtype) + bias.astype(dtype)


class PatchEmbeddings(nn.Module):
    """Holds the projection under the name it has in checkpoints."""

    config: Any
    dtype: Dtype = None

    @nn.compact
    def __call__(self, pixels: jax.Array) -> jax.Array:
        return Projection(self.config, self.dtype, name="projection")(pixels)


class ImageEmbeddings(nn.Module):
    """Tokens of the model's own, then the patches, each with its position (Dosovitskiy et al. 2021, eq. 1).

    tokens: the names of the model's own, in order.
    """

    config: Any
    dtype: Dtype = None
    tokens: tuple[str, ...] = ("cls_token",)

    @nn.compact
    def __call__(self, pixels: jax.Array, interpolated: bool, deterministic: bool) -> jax.Array:
        c = self.config
        x = PatchEmbeddings(c, self.dtype, name="patch_embeddings")(pixels)
        drawn = nn.initializers.truncated_normal(c.initializer_range)
        own = [self.param(name, drawn, (1, 1, c.hidden_size), jnp.float32) for name in self.tokens]
        rows = len(own) + c.grid[0] * c.grid[1]
        table = self.param("position_embeddings", drawn, (1, rows, c.hidden_size), jnp.float32)
        if interpolated:
            table = interpolate(table, c.grid, c.grid_of(*pixels.shape[1:3]))
        own = [jnp.broadcast_to(token, (x.shape[0], 1, c.hidden_size)).astype(x.dtype) for token in own]
        x = jnp.concatenate([*own, x], axis=1) + table.astype(x.dtype)
        return Dropout(c.hidden_dropout_prob)(x, deterministic)
