"""From images to tokens: linear projection of patches, special tokens, position embeddings.

Module names are those of Hugging Face's Flax checkpoints.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from tlx.models.interpolate import interpolate
from tlx.models.layers import Dropout, Dtype


class Projection(nn.Module):
    """A linear projection of each patch.

    It equals the convolution of transformers, whose stride is its kernel size, and is computed as one matrix product.
    """

    config: Any
    dtype: Dtype = None

    @nn.compact
    def __call__(self, pixels: jax.Array) -> jax.Array:
        """Projects (batch, height, width, channels) to (batch, patches, hidden), patches in row-major order."""
        c = self.config
        (patch_height, patch_width), (rows, columns) = c.patch, c.grid_of(*pixels.shape[1:3])
        shape = (patch_height, patch_width, c.num_channels, c.hidden_size)
        kernel = self.param("kernel", nn.initializers.truncated_normal(c.initializer_range), shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (c.hidden_size,), jnp.float32)
        dtype = self.dtype or kernel.dtype
        x = pixels[:, : rows * patch_height, : columns * patch_width].astype(dtype)
        x = x.reshape(-1, rows, patch_height, columns, patch_width, c.num_channels).transpose(0, 1, 3, 2, 4, 5)
        x = x.reshape(-1, rows * columns, patch_height * patch_width * c.num_channels)
        return x @ kernel.reshape(-1, c.hidden_size).astype(dtype) + bias.astype(dtype)


class PatchEmbeddings(nn.Module):
    """Contains the projection, so that it has the name it has in checkpoints."""

    config: Any
    dtype: Dtype = None

    @nn.compact
    def __call__(self, pixels: jax.Array) -> jax.Array:
        return Projection(self.config, self.dtype, name="projection")(pixels)


class ImageEmbeddings(nn.Module):
    """Special tokens followed by the patches, plus position embeddings (Dosovitskiy et al. 2021, eq. 1).

    Attributes:
      config: an `ImageConfig`.
      dtype: the dtype of the computation; None for the parameters' own.
      tokens: the names of the special tokens, in order.
    """

    config: Any
    dtype: Dtype = None
    tokens: tuple[str, ...] = ("cls_token",)

    @nn.compact
    def __call__(self, pixels: jax.Array, interpolated: bool, deterministic: bool) -> jax.Array:
        c = self.config
        x = PatchEmbeddings(c, self.dtype, name="patch_embeddings")(pixels)
        initializer = nn.initializers.truncated_normal(c.initializer_range)
        tokens = [self.param(name, initializer, (1, 1, c.hidden_size), jnp.float32) for name in self.tokens]
        length = len(tokens) + c.grid[0] * c.grid[1]
        table = self.param("position_embeddings", initializer, (1, length, c.hidden_size), jnp.float32)
        if interpolated:
            table = interpolate(table, c.grid, c.grid_of(*pixels.shape[1:3]))
        tokens = [jnp.broadcast_to(token, (x.shape[0], 1, c.hidden_size)).astype(x.dtype) for token in tokens]
        x = jnp.concatenate([*tokens, x], axis=1) + table.astype(x.dtype)
        return Dropout(c.hidden_dropout_prob)(x, deterministic)
