"""DistilBERT (Sanh et al. 2019): BERT without token types and pooler, with its own parameter names.

A block applies dropout to the attention weights and to the output of the feed-forward network, but not to the output
of attention.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import ClassVar

import jax
from flax import linen as nn

from tlx.models import published_names
from tlx.models.activations import ACTIVATIONS
from tlx.models.heads import HeadSettings, Readout
from tlx.models.layers import Dropout, DropPath, Dtype, Embedding, attend, dense, fusion_barrier, layer_norm
from tlx.models.text import TextBackbone
from tlx.models.text_config import TextConfig
from tlx.models.transformer import Encoder

EPSILON = 1e-12  # of every layer norm; the config has no field for it


@dataclasses.dataclass(frozen=True)
class DistilBertConfig(TextConfig):
    """The config of DistilBERT; the fields are those of its Hugging Face config."""

    model_type = "distilbert"
    family = "DistilBERT"
    names = published_names.DISTILBERT
    renamed: ClassVar[Mapping[str, str]] = {
        "hidden_size": "dim",
        "num_hidden_layers": "n_layers",
        "num_attention_heads": "n_heads",
        "hidden_act": "activation",
        "hidden_dropout_prob": "dropout",
        "attention_probs_dropout_prob": "attention_dropout",
        "classifier_dropout": "seq_classif_dropout",
    }

    vocab_size: int = 30522
    dim: int = 768
    n_layers: int = 6
    n_heads: int = 12
    hidden_dim: int = 3072
    activation: str = "gelu"
    dropout: float = 0.1
    attention_dropout: float = 0.1
    seq_classif_dropout: float = 0.2
    qa_dropout: float = 0.1
    max_position_embeddings: int = 512
    initializer_range: float = 0.02
    pad_token_id: int | None = 0

    @property
    def block_paths(self) -> tuple[str, ...]:
        """The paths of the embeddings and the blocks within the backbone's parameters, from the bottom up."""
        return ("embeddings", *(f"transformer/layer/{i}" for i in range(self.n_layers)))

    @property
    def head_settings(self) -> HeadSettings:
        """Heads of whole texts, and of multiple choice, read the first token through a dense layer of the head."""
        return HeadSettings(
            text=Readout(self.seq_classif_dropout, dense="relu"),
            token=Readout(self.dropout),
            span=Readout(self.qa_dropout),
            choice=Readout(self.seq_classif_dropout, dense="relu"),
            transform_size=self.dim,
            transform_act=self.activation,
            layer_norm_eps=EPSILON,
            initializer_range=self.initializer_range,
        )


class Embeddings(nn.Module):
    """LayerNorm(word + position)."""

    config: DistilBertConfig
    dtype: Dtype = None

    @nn.compact
    def __call__(self, input_ids: jax.Array, position_ids: jax.Array, deterministic: bool) -> jax.Array:
        c = self.config

        def table(rows: int, name: str, padding_id: int | None = None) -> Embedding:
            return Embedding(rows, c.dim, self.dtype, c.initializer_range, padding_id, name=name)

        x = table(c.vocab_size, "word_embeddings", c.pad_token_id)(input_ids)
        x = x + table(c.max_position_embeddings, "position_embeddings")(position_ids)
        x = layer_norm("LayerNorm", self.dtype, EPSILON)(x)
        return Dropout(c.dropout)(x, deterministic)


class SelfAttention(nn.Module):
    """Multi-head attention with its output projection."""

    config: DistilBertConfig
    dtype: Dtype = None

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array | None, deterministic: bool) -> tuple[jax.Array, jax.Array | None]:
        c = self.config
        query, key, value = (
            dense(c.dim, name, self.dtype, c.initializer_range)(x) for name in ("q_lin", "k_lin", "v_lin")
        )
        drop = functools.partial(Dropout(c.attention_dropout), deterministic=deterministic)
        fused = c.attention == "cudnn" and (deterministic or c.attention_dropout == 0)
        mixed, weights = attend(query, key, value, c.n_heads, mask, None if fused else drop)
        return dense(c.dim, "out_lin", self.dtype, c.initializer_range)(mixed), weights


class FeedForward(nn.Module):
    """Dropout(W₂ act(W₁ x + b₁) + b₂)."""

    config: DistilBertConfig
    dtype: Dtype = None

    @nn.compact
    def __call__(self, x: jax.Array, deterministic: bool) -> jax.Array:
        c = self.config
        wide = ACTIVATIONS[c.activation](dense(c.hidden_dim, "lin1", self.dtype, c.initializer_range)(x))
        return Dropout(c.dropout)(dense(c.dim, "lin2", self.dtype, c.initializer_range)(wide), deterministic)


class Block(nn.Module):
    """Attention and a feed-forward network, each followed by a residual sum and layer norm.

    Attributes:
      config: the config of the backbone.
      dtype: the dtype of the computation; None for the parameters' own.
      drop_path: the rate of stochastic depth, applied to each of the two branches.
    """

    config: DistilBertConfig
    dtype: Dtype = None
    drop_path: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array | None, deterministic: bool) -> tuple[jax.Array, jax.Array | None]:
        mixed, weights = SelfAttention(self.config, self.dtype, name="attention")(x, mask, deterministic)
        mixed = DropPath(self.drop_path)(mixed, deterministic)
        x = layer_norm("sa_layer_norm", self.dtype, EPSILON)(fusion_barrier(mixed + x))
        wide = FeedForward(self.config, self.dtype, name="ffn")(x, deterministic)
        wide = DropPath(self.drop_path)(wide, deterministic)
        return layer_norm("output_layer_norm", self.dtype, EPSILON)(fusion_barrier(wide + x)), weights


class DistilBert(TextBackbone):
    """The backbone of DistilBERT; `config` is a `DistilBertConfig`."""

    def setup(self) -> None:
        self.embeddings = Embeddings(self.config, self.dtype)
        self.transformer = Encoder(self.config, self.dtype, Block)

    def embed(
        self, input_ids: jax.Array, token_type_ids: jax.Array, position_ids: jax.Array, deterministic: bool
    ) -> jax.Array:
        del token_type_ids
        x: jax.Array = self.embeddings(input_ids, position_ids, deterministic)
        return x

    def block(
        self, index: int, x: jax.Array, mask: jax.Array | None, deterministic: bool
    ) -> tuple[jax.Array, jax.Array | None]:
        output_and_attention: tuple[jax.Array, jax.Array | None] = self.transformer(index, x, mask, deterministic)
        return output_and_attention
