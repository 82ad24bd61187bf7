"""The layers that transformer encoders share: dense, embedding, layer norm, dropout, attention.

Computation runs in `dtype` (None: that of the parameters); softmax and the statistics of layer norm run in at least
float32. Parameters are created in float32 and keep whatever dtype they are given.
"""

import math
import zlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from tlx.errors import TlxError
from tlx.parallel.axis import device_index

Dtype = Any
MASK_BITS = 16


def mix(x: jax.Array) -> jax.Array:
    """A bijection of uint32 in which every input bit moves every output bit (Wellons 2018, `lowbias32`)."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)


def keep_mask(key: jax.Array, rate: float, shape: tuple[int, ...]) -> tuple[jax.Array, float]:
    """Which elements dropout keeps, and the probability with which it keeps them.

    Two rounds of `mix` over an element's index and the key: a counter-based stream, so that a mask depends on neither
    order nor devices. JAX's own stream (threefry) costs a training step of BERT on a CPU up to half of its time, and
    much of its compilation. Sixteen bits decide an element; the probability is rounded to 1/65536 and given back, so
    that the expectation is exact.

    Args:
      key: a PRNG key, or its uint32 words.
      rate: of what is dropped.
      shape: of the mask. Under `jax.pmap` it is this device's part of a mask whose first axis goes on over the devices,
        in their order: the first element's index is how many there are on the devices before.
    """
    words = jax.random.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key
    threshold = max(round((1 - rate) * 2**MASK_BITS), 1)
    halves = 2 if shape and shape[-1] % 2 == 0 else 1
    count = (*shape[:-1], shape[-1] // halves) if shape else ()
    index = jax.lax.iota(jnp.uint32, math.prod(count)).reshape(count)
    if (device := device_index()) is not None:
        index += device.astype(jnp.uint32) * jnp.uint32(math.prod(count))
    drawn = mix(mix(index ^ words[0]) + words[-1])
    if halves == 2:  # one draw decides two neighbours
        bits = jax.lax.bitcast_convert_type(drawn, jnp.uint16).reshape(shape)
    else:
        bits = (drawn >> MASK_BITS).astype(jnp.uint16)
    return bits <= threshold - 1, threshold / 2**MASK_BITS  # 65536 itself is no uint16


class Dropout(nn.Module):
    """Inverted dropout (Srivastava et al. 2014): zero with probability `rate`, the rest scaled to keep the mean.

    The mask is decided by the key given to `apply` as `rngs={"dropout": key}`, the module's path and the element's
    index. A module that is called twice in one `apply` drops the same elements twice.
    """

    rate: float

    def __call__(self, x: jax.Array, deterministic: bool) -> jax.Array:
        if deterministic or self.rate == 0:
            return x
        return kept(self, self.rate, x, x.shape)


class DropPath(nn.Module):
    """Stochastic depth (Huang et al. 2016) as timm has it: a branch of a block is left out for whole examples with
    probability `rate`, and scaled for the others to keep the mean. The mask is decided as `Dropout`'s is."""

    rate: float

    def __call__(self, x: jax.Array, deterministic: bool) -> jax.Array:
        """x: (batch, …), what a block adds to its residual."""
        if deterministic or self.rate == 0:
            return x
        return kept(self, self.rate, x, (x.shape[0], *(1,) * (x.ndim - 1)))


def kept(module: nn.Module, rate: float, x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """x where the module's mask of this shape keeps it, scaled to keep the mean; zero elsewhere."""
    if not module.has_rng("dropout") or module.scope is None:
        raise TlxError('dropout draws random numbers; give apply rngs={"dropout": jax.random.key(…)}.')
    words = jax.random.key_data(module.scope.rngs["dropout"].rng).ravel()
    site = jnp.uint32(zlib.crc32("/".join(module.path).encode()))
    keep, probability = keep_mask(mix(words + site), rate, shape)
    return jnp.where(keep, x / jnp.asarray(probability, x.dtype), jnp.zeros((), x.dtype))


def depth_rates(rate: float, blocks: int) -> tuple[float, ...]:
    """Stochastic depth's rate of each block, from 0 at the first to `rate` at the last (Huang et al. 2016, eq. 4, in
    timm's form)."""
    return tuple(rate * index / max(blocks - 1, 1) for index in range(blocks))


def dense(features: int, name: str | None, dtype: Dtype, initializer_range: float, use_bias: bool = True) -> nn.Dense:
    """x W + b, W drawn from N(0, initializer_range²), b zero."""
    drawn = nn.initializers.normal(initializer_range)
    return nn.Dense(features, use_bias, name=name, dtype=dtype, kernel_init=drawn)


def layer_norm(name: str | None, dtype: Dtype, epsilon: float) -> nn.LayerNorm:
    """Layer norm over the last axis (Ba et al. 2016), the variance taken about the mean (two passes)."""
    return nn.LayerNorm(name=name, dtype=dtype, epsilon=epsilon, use_fast_variance=False)


@jax.custom_vjp
def fusion_barrier(x: jax.Array) -> jax.Array:
    """x, of which and of whose gradient XLA makes an array.

    What a residual connection adds is part of all that follows. XLA for CPUs takes additions for cheap and computes
    such a sum anew wherever it is read, from the first block on, so that the compiled program and the work outside
    products of matrices grow with the square of the depth. It does not repeat a division, so here is one, by ones that
    only a run can tell from other numbers: exact, and nothing beside a block's work. `optimization_barrier` does not
    help, for it is gone before operations are fused.
    """
    return x / jnp.where(x > jnp.inf, 2, 1).astype(x.dtype)


fusion_barrier.defvjp(lambda x: (fusion_barrier(x), None), lambda _, gradient: (fusion_barrier(gradient),))


class Embedding(nn.Module):
    """Rows of a table. The row `padding_id` takes no gradient, as in the reference (torch's `padding_idx`).

    A negative `padding_id` counts from the end.
    """

    num_embeddings: int
    features: int
    dtype: Dtype
    initializer_range: float
    padding_id: int | None = None

    @nn.compact
    def __call__(self, ids: jax.Array) -> jax.Array:
        """ids: integers (...,) in [0, num_embeddings). Returns (..., features)."""
        shape = (self.num_embeddings, self.features)
        table = self.param("embedding", self._initialise, shape, jnp.float32)
        rows = jnp.take(table, ids, axis=0)
        if self.padding_id is not None:
            rows = jnp.where(
                (ids == self.padding_id % self.num_embeddings)[..., None], jax.lax.stop_gradient(rows), rows
            )
        return rows if self.dtype is None else rows.astype(self.dtype)

    def _initialise(self, key: jax.Array, shape: tuple[int, int], dtype: Dtype) -> jax.Array:
        table = nn.initializers.normal(self.initializer_range)(key, shape, dtype)
        return table if self.padding_id is None else table.at[self.padding_id].set(0)


def attention_weights(query: jax.Array, key: jax.Array, mask: jax.Array | None) -> jax.Array:
    """softmax(Q Kᵀ / √d) over the keys that `mask` lets through (Vaswani et al. 2017, eq. 1).

    Args:
      query, key: (batch, length, heads, d).
      mask: boolean, broadcastable to (batch, heads, queries, keys); a query that may see nothing sees all alike.
        It is added to the scores, as in the reference, so that such a query's gradient is the reference's too.

    Returns:
      (batch, heads, queries, keys), in the dtype of `query`.
    """
    scores = jnp.einsum("bqhd,bkhd->bhqk", query * query.shape[-1] ** -0.5, key)
    scores = scores.astype(jnp.promote_types(scores.dtype, jnp.float32))
    if mask is not None:
        scores += jnp.where(mask, 0, jnp.finfo(scores.dtype).min).astype(scores.dtype)
    return jax.nn.softmax(scores, axis=-1).astype(query.dtype)


def attend(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    heads: int,
    mask: jax.Array | None,
    drop: Callable[[jax.Array], jax.Array],
) -> tuple[jax.Array, jax.Array]:
    """Multi-head attention (Vaswani et al. 2017, 3.2.2) of projections (batch, length, hidden).

    drop: dropout of the weights. Returns the mixed values (batch, length, hidden) and the weights after dropout, as
    the reference does.
    """
    query, key, value = (x.reshape(*x.shape[:-1], heads, -1) for x in (query, key, value))
    weights = attention_weights(query, key, mask)
    weights = drop(weights)
    mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, value)
    return mixed.reshape(*mixed.shape[:-2], -1), weights
