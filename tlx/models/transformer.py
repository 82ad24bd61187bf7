"""The post-norm transformer encoder that BERT, RoBERTa and ELECTRA share (Vaswani et al. 2017; Devlin et al. 2019).

Module names are those of Hugging Face's Flax checkpoints, so a parameter's path equals its name in a checkpoint without
the family's prefix. `config` is the config of one of these families.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from tlx.models.activations import ACTIVATIONS
from tlx.models.layers import (
    Dropout,
    DropPath,
    Dtype,
    Embedding,
    attend,
    dense,
    depth_rates,
    fusion_barrier,
    layer_norm,
)
from tlx.models.traced_once import TracedOnce


class TextEmbeddings(nn.Module):
    """LayerNorm(word + position + token type embeddings), then dropout.

    Attributes:
      config: the config of the backbone.
      dtype: the dtype of the computation; None for the parameters' own.
      size: the width of the tables; None for the hidden size.
      position_padding_id: the row of the position embeddings that receives no gradient; None for no such row.
    """

    config: Any
    dtype: Dtype = None
    size: int | None = None
    position_padding_id: int | None = None

    @nn.compact
    def __call__(
        self, input_ids: jax.Array, token_type_ids: jax.Array, position_ids: jax.Array, deterministic: bool
    ) -> jax.Array:
        c, size = self.config, self.size or self.config.hidden_size

        def table(rows: int, name: str, padding_id: int | None = None) -> Embedding:
            return Embedding(rows, size, self.dtype, c.initializer_range, padding_id, name=name)

        x = table(c.vocab_size, "word_embeddings", c.pad_token_id)(input_ids)
        x = x + table(c.type_vocab_size, "token_type_embeddings")(token_type_ids)
        x = x + table(c.max_position_embeddings, "position_embeddings", self.position_padding_id)(position_ids)
        x = layer_norm("LayerNorm", self.dtype, c.layer_norm_eps)(x)
        return Dropout(c.hidden_dropout_prob)(x, deterministic)


class SelfAttention(nn.Module):
    """Multi-head scaled dot-product attention (Vaswani et al. 2017)."""

    config: Any
    dtype: Dtype = None

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array | None, deterministic: bool) -> tuple[jax.Array, jax.Array | None]:
        c = self.config
        query, key, value = (
            dense(c.hidden_size, name, self.dtype, c.initializer_range, getattr(c, "qkv_bias", True))(x)
            for name in ("query", "key", "value")
        )
        drop = functools.partial(Dropout(c.attention_probs_dropout_prob), deterministic=deterministic)
        fused = c.attention == "cudnn" and (deterministic or c.attention_probs_dropout_prob == 0)
        return attend(query, key, value, c.num_attention_heads, mask, None if fused else drop)


class AddNorm(nn.Module):
    """LayerNorm(residual + DropPath(Dropout(W x + b))), the end of both halves of a block."""

    config: Any
    dtype: Dtype = None
    drop_path: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, residual: jax.Array, deterministic: bool) -> jax.Array:
        c = self.config
        x = dense(c.hidden_size, "dense", self.dtype, c.initializer_range)(x)
        x = DropPath(self.drop_path)(Dropout(c.hidden_dropout_prob)(x, deterministic), deterministic)
        return layer_norm("LayerNorm", self.dtype, c.layer_norm_eps)(fusion_barrier(residual + x))


class Attention(nn.Module):
    """Self-attention and its output projection, as two modules because checkpoints name both."""

    config: Any
    dtype: Dtype = None
    drop_path: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array | None, deterministic: bool) -> tuple[jax.Array, jax.Array | None]:
        mixed, weights = SelfAttention(self.config, self.dtype, name="self")(x, mask, deterministic)
        return AddNorm(self.config, self.dtype, self.drop_path, name="output")(mixed, x, deterministic), weights


class Intermediate(nn.Module):
    """The first layer of the feed-forward network, act(W x + b)."""

    config: Any
    dtype: Dtype = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        c = self.config
        return ACTIVATIONS[c.hidden_act](dense(c.intermediate_size, "dense", self.dtype, c.initializer_range)(x))


class Block(nn.Module):
    """Attention and a feed-forward network, each followed by a residual sum and layer norm.

    Attributes:
      config: the config of the backbone.
      dtype: the dtype of the computation; None for the parameters' own.
      drop_path: the rate of stochastic depth, applied to each of the two branches.
    """

    config: Any
    dtype: Dtype = None
    drop_path: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array | None, deterministic: bool) -> tuple[jax.Array, jax.Array | None]:
        x, weights = Attention(self.config, self.dtype, self.drop_path, name="attention")(x, mask, deterministic)
        wide = Intermediate(self.config, self.dtype, name="intermediate")(x)
        return AddNorm(self.config, self.dtype, self.drop_path, name="output")(wide, x, deterministic), weights


class Layers(nn.Module):
    """The numbered blocks. A separate module, so that their paths are `encoder/layer/0`, `encoder/layer/1`, …"""

    config: Any
    dtype: Dtype = None
    block: type[nn.Module] | None = None

    def setup(self) -> None:
        block = self.block or Block
        rates = depth_rates(self.config.drop_path_rate, self.config.num_blocks)
        self.blocks = [block(self.config, self.dtype, drop_path=rate, name=str(i)) for i, rate in enumerate(rates)]
        self.traced_once = TracedOnce()

    def __call__(self, index: int, x: jax.Array, mask: jax.Array | None, deterministic: bool) -> Any:
        return self.traced_once(self.blocks[index], x, mask, deterministic)


class Encoder(nn.Module):
    """Contains the blocks, so that they have the names they have in checkpoints.

    Attributes:
      config: the config of the backbone.
      dtype: the dtype of the computation; None for the parameters' own.
      block: the class of the blocks; None for `Block`.
    """

    config: Any
    dtype: Dtype = None
    block: type[nn.Module] | None = None

    def setup(self) -> None:
        self.layer = Layers(self.config, self.dtype, self.block)

    def __call__(self, index: int, x: jax.Array, mask: jax.Array | None, deterministic: bool) -> Any:
        return self.layer(index, x, mask, deterministic)


class Pooler(nn.Module):
    """tanh(W x₀ + b), where x₀ is the first token."""

    config: Any
    dtype: Dtype = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return jnp.tanh(dense(self.config.hidden_size, "dense", self.dtype, self.config.initializer_range)(x[:, 0]))
