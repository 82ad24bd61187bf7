"""BERT (Devlin et al. 2019): post-norm transformer encoder over word, position and token-type embeddings.

Module names are those of Hugging Face's Flax checkpoints, so that a parameter's path is its name there without `bert/`.
"""

from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from tlx.errors import TlxError
from tlx.models.activations import ACTIVATIONS
from tlx.models.bert_config import BertConfig
from tlx.models.layers import Dropout, Dtype, Embedding, attention_weights, dense, layer_norm

KINDS = (
    (r"(.*/)?embeddings/\w+_embeddings/embedding", ("embedding",)),
    (r"(.*/)?LayerNorm/bias", ("bias", "norm")),
    (r"(.*/)?LayerNorm/scale", ("norm",)),
)


@struct.dataclass
class BackboneOutput:
    """What a backbone returns; what was not asked for, or does not exist, is None.

    last_hidden_state: (batch, length, hidden). pooler_output: (batch, hidden).
    hidden_states: the embeddings' output and each block's. attentions: (batch, heads, length, length) of each block.
    """

    last_hidden_state: jax.Array
    pooler_output: jax.Array | None = None
    hidden_states: tuple[jax.Array, ...] | None = None
    attentions: tuple[jax.Array, ...] | None = None


class BertEmbeddings(nn.Module):
    """LayerNorm(word + position + token type)."""

    config: BertConfig
    dtype: Dtype = None

    @nn.compact
    def __call__(
        self, input_ids: jax.Array, token_type_ids: jax.Array, position_ids: jax.Array, deterministic: bool
    ) -> jax.Array:
        c = self.config

        def table(rows: int, name: str, padding_id: int | None = None) -> Embedding:
            return Embedding(rows, c.hidden_size, self.dtype, c.initializer_range, padding_id, name=name)

        x = table(c.vocab_size, "word_embeddings", c.pad_token_id)(input_ids)
        x = x + table(c.type_vocab_size, "token_type_embeddings")(token_type_ids)
        x = x + table(c.max_position_embeddings, "position_embeddings")(position_ids)
        x = layer_norm("LayerNorm", self.dtype, c.layer_norm_eps)(x)
        return Dropout(c.hidden_dropout_prob)(x, deterministic)


class SelfAttention(nn.Module):
    """Multi-head scaled dot-product attention (Vaswani et al. 2017)."""

    config: BertConfig
    dtype: Dtype = None

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array | None, deterministic: bool) -> tuple[jax.Array, jax.Array]:
        c = self.config
        heads = (*x.shape[:-1], c.num_attention_heads, c.hidden_size // c.num_attention_heads)
        query, key, value = (
            dense(c.hidden_size, name, self.dtype, c.initializer_range)(x).reshape(heads)
            for name in ("query", "key", "value")
        )
        weights = attention_weights(query, key, mask)
        weights = Dropout(c.attention_probs_dropout_prob)(weights, deterministic)
        mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, value)
        return mixed.reshape(x.shape), weights


class AddNorm(nn.Module):
    """LayerNorm(residual + Dropout(W x + b)): what closes both halves of a block."""

    config: BertConfig
    dtype: Dtype = None

    @nn.compact
    def __call__(self, x: jax.Array, residual: jax.Array, deterministic: bool) -> jax.Array:
        c = self.config
        x = dense(c.hidden_size, "dense", self.dtype, c.initializer_range)(x)
        x = Dropout(c.hidden_dropout_prob)(x, deterministic)
        return layer_norm("LayerNorm", self.dtype, c.layer_norm_eps)(residual + x)


class Attention(nn.Module):
    """Self-attention and its closing projection; two modules because their names are two."""

    config: BertConfig
    dtype: Dtype = None

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array | None, deterministic: bool) -> tuple[jax.Array, jax.Array]:
        mixed, weights = SelfAttention(self.config, self.dtype, name="self")(x, mask, deterministic)
        return AddNorm(self.config, self.dtype, name="output")(mixed, x, deterministic), weights


class Intermediate(nn.Module):
    """The widening half of the feed-forward network."""

    config: BertConfig
    dtype: Dtype = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        c = self.config
        return ACTIVATIONS[c.hidden_act](dense(c.intermediate_size, "dense", self.dtype, c.initializer_range)(x))


class Block(nn.Module):
    """Attention and feed-forward network, each closed by add and norm."""

    config: BertConfig
    dtype: Dtype = None

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array | None, deterministic: bool) -> tuple[jax.Array, jax.Array]:
        x, weights = Attention(self.config, self.dtype, name="attention")(x, mask, deterministic)
        wide = Intermediate(self.config, self.dtype, name="intermediate")(x)
        return AddNorm(self.config, self.dtype, name="output")(wide, x, deterministic), weights


class Layers(nn.Module):
    """The blocks by number. A module of its own so that they are named `encoder/layer/0`, `encoder/layer/1`, …"""

    config: BertConfig
    dtype: Dtype = None

    def setup(self) -> None:
        self.blocks = [Block(self.config, self.dtype, name=str(i)) for i in range(self.config.num_hidden_layers)]

    def __call__(self, index: int, x: jax.Array, mask: jax.Array | None, deterministic: bool) -> Any:
        return self.blocks[index](x, mask, deterministic)


class Encoder(nn.Module):
    """Holds the blocks under the name they have in checkpoints."""

    config: BertConfig
    dtype: Dtype = None

    def setup(self) -> None:
        self.layer = Layers(self.config, self.dtype)

    def __call__(self, index: int, x: jax.Array, mask: jax.Array | None, deterministic: bool) -> Any:
        return self.layer(index, x, mask, deterministic)


class Pooler(nn.Module):
    """tanh(W x₀ + b) of the first token."""

    config: BertConfig
    dtype: Dtype = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return jnp.tanh(dense(self.config.hidden_size, "dense", self.dtype, self.config.initializer_range)(x[:, 0]))


class Bert(nn.Module):
    """The backbone: embeddings, numbered blocks, pooler."""

    config: BertConfig
    dtype: Dtype = None

    kinds = KINDS

    def setup(self) -> None:
        self.embeddings = BertEmbeddings(self.config, self.dtype)
        self.encoder = Encoder(self.config, self.dtype)
        if self.config.add_pooling_layer:
            self.pooler = Pooler(self.config, self.dtype)

    def __call__(
        self,
        input_ids: jax.Array | None = None,
        attention_mask: jax.Array | None = None,
        token_type_ids: jax.Array | None = None,
        position_ids: jax.Array | None = None,
        segment_ids: jax.Array | None = None,
        *,
        hidden_state: jax.Array | None = None,
        start: int = 0,
        stop: int | None = None,
        deterministic: bool = True,
        frozen: Collection[str] = (),
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> BackboneOutput:
        """Runs the backbone, or the blocks `start` to `stop` of it.

        Args:
          input_ids: integers (batch, length).
          attention_mask: (batch, length), nonzero where a token may be seen; by default everywhere.
          token_type_ids: (batch, length); by default 0.
          position_ids: (batch, length); by default 0, 1, 2, …
          segment_ids: (batch, length); tokens see only their own segment (several texts packed in a row).
          hidden_state: (batch, length, hidden), in place of `input_ids`: the output of block `start - 1`, for `start` 0
            that of the embeddings.
          start, stop: the first block to run, the one before which to stop. The pooler runs after the last block only.
          deterministic: no dropout anywhere.
          frozen: path prefixes of blocks that run without dropout (`embeddings`, `encoder/layer/0`).
          output_hidden_states, output_attentions: return them too.
        """
        last = self.config.num_hidden_layers
        stop = last if stop is None else stop
        if (input_ids is None) == (hidden_state is None) or (hidden_state is None and start):
            raise TlxError(f"give input_ids (start=0) or hidden_state and start, found start={start}.")
        if not 0 <= start <= stop <= last:
            raise TlxError(f"the backbone has {last} blocks; found start={start}, stop={stop}.")
        x = (
            hidden_state
            if hidden_state is not None
            else self._embed(input_ids, token_type_ids, position_ids, deterministic or "embeddings" in frozen)
        )
        mask = _visible(attention_mask, segment_ids)
        hidden_states, attentions = [x], []
        for index in range(start, stop):
            x, weights = self.encoder(index, x, mask, deterministic or f"encoder/layer/{index}" in frozen)
            hidden_states.append(x)
            attentions.append(weights)
        return BackboneOutput(
            last_hidden_state=x,
            pooler_output=self.pooler(x) if self.config.add_pooling_layer and stop == last else None,
            hidden_states=tuple(hidden_states) if output_hidden_states else None,
            attentions=tuple(attentions) if output_attentions else None,
        )

    def word_embeddings(self) -> jax.Array:
        """The table, (vocab_size, hidden), for a tied output layer; to be read after the backbone has run."""
        table: jax.Array = self.variables["params"]["embeddings"]["word_embeddings"]["embedding"]
        return table

    def _embed(
        self, input_ids: Any, token_type_ids: jax.Array | None, position_ids: jax.Array | None, deterministic: bool
    ) -> jax.Array:
        length, limit = input_ids.shape[1], self.config.max_position_embeddings
        if position_ids is None:
            if length > limit:
                raise TlxError(
                    f"a sequence of {length} tokens is longer than max_position_embeddings {limit}; truncate it."
                )
            position_ids = jnp.arange(length)[None]
        if token_type_ids is None:
            token_type_ids = jnp.zeros_like(input_ids)
        return self.embeddings(input_ids, token_type_ids, position_ids, deterministic)


def _visible(attention_mask: jax.Array | None, segment_ids: jax.Array | None) -> jax.Array | None:
    """(batch, 1, 1 or queries, keys), True where a query may see a key; None when everything may be seen."""
    mask = None if attention_mask is None else (attention_mask != 0)[:, None, None, :]
    if segment_ids is not None:
        same = segment_ids[:, None, :, None] == segment_ids[:, None, None, :]
        mask = same if mask is None else mask & same
    return mask
