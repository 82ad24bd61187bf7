"""Attention, embeddings, blocks and poolers that are wrong in one thing; they stand in for those of tlx.models."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from tlx.models import layers, transformer
from tlx.models.layers import Dropout, dense, layer_norm

RIGHT = layers.attention_weights  # itself, while a wrong one stands in its place


def scaled_attention(factor: Callable[[jax.Array], float]) -> Callable[..., jax.Array]:
    """Attention whose scores are multiplied by a factor too many."""
    return lambda query, key, mask: RIGHT(query * factor(query), key, mask)


def soft_mask(query: jax.Array, key: jax.Array, mask: jax.Array | None) -> jax.Array:
    """A mask that weighs down by e⁻¹⁰ in place of shutting out."""
    scores = jnp.einsum("bqhd,bkhd->bhqk", query * query.shape[-1] ** -0.5, key)
    return jax.nn.softmax(scores if mask is None else jnp.where(mask, scores, scores - 10), axis=-1)


def replacing_mask(query: jax.Array, key: jax.Array, mask: jax.Array | None) -> jax.Array:
    """A mask put in the scores' place: the same numbers, but no gradient where nothing may be seen."""
    scores = jnp.einsum("bqhd,bkhd->bhqk", query * query.shape[-1] ** -0.5, key)
    return jax.nn.softmax(scores if mask is None else jnp.where(mask, scores, jnp.finfo(scores.dtype).min), axis=-1)


def over_queries(query: jax.Array, key: jax.Array, mask: jax.Array | None) -> jax.Array:
    """Weights that add up to one over the queries."""
    return RIGHT(key, query, mask).swapaxes(-1, -2)


def embeddings_of(change: Callable[[Any, Any], tuple[Any, Any]]) -> type[transformer.TextEmbeddings]:
    """Embeddings of other token types and positions than were asked for."""

    class Embeddings(transformer.TextEmbeddings):
        def __call__(self, input_ids: Any, token_type_ids: Any, position_ids: Any, deterministic: bool) -> jax.Array:
            return super().__call__(input_ids, *change(token_type_ids, position_ids), deterministic)

    return Embeddings


class DropsBeforeNorm(transformer.TextEmbeddings):
    def __call__(self, input_ids: Any, token_type_ids: Any, position_ids: Any, deterministic: bool) -> jax.Array:
        with nn.intercept_methods(_norm_of_dropped(self.config.hidden_dropout_prob, deterministic)):
            return super().__call__(input_ids, token_type_ids, position_ids, True)


def _norm_of_dropped(rate: float, deterministic: bool) -> Any:
    def intercept(next_: Any, arguments: Any, options: Any, context: Any) -> Any:
        if isinstance(context.module, nn.LayerNorm):
            arguments = (Dropout(rate)(arguments[0], deterministic),)
        return next_(*arguments, **options)

    return intercept


class DropsAfterAdding(transformer.AddNorm):
    @nn.compact
    def __call__(self, x: jax.Array, residual: jax.Array, deterministic: bool) -> jax.Array:
        c = self.config
        x = dense(c.hidden_size, "dense", self.dtype, c.initializer_range)(x)
        x = Dropout(c.hidden_dropout_prob)(residual + x, deterministic)
        return layer_norm("LayerNorm", self.dtype, c.layer_norm_eps)(x)


class NormThenAdd(transformer.AddNorm):
    @nn.compact
    def __call__(self, x: jax.Array, residual: jax.Array, deterministic: bool) -> jax.Array:
        c = self.config
        x = dense(c.hidden_size, "dense", self.dtype, c.initializer_range)(x)
        return residual + layer_norm("LayerNorm", self.dtype, c.layer_norm_eps)(x)


class Residual(transformer.Block):
    """The feed-forward network's residual is the block's input."""

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array | None, deterministic: bool) -> tuple[jax.Array, jax.Array]:
        mixed, weights = transformer.Attention(self.config, self.dtype, name="attention")(x, mask, deterministic)
        wide = transformer.Intermediate(self.config, self.dtype, name="intermediate")(mixed)
        return transformer.AddNorm(self.config, self.dtype, name="output")(wide, x, deterministic), weights


def pooler_of(change: Callable[[jax.Array], jax.Array]) -> type[transformer.Pooler]:
    """A pooler of another token than the first."""

    class Pooler(transformer.Pooler):
        def __call__(self, x: jax.Array) -> jax.Array:
            return super().__call__(change(x))

    return Pooler


class NoTanh(transformer.Pooler):
    def __call__(self, x: jax.Array) -> jax.Array:
        return jnp.arctanh(super().__call__(x))
