"""The layers that transformer encoders share: dense, embedding, layer norm, dropout, attention.

Layers compute in `dtype` (None: the dtype of the parameters); softmax and the statistics of layer norm are computed in
at least float32. Parameters are initialized in float32; parameters of another dtype are used as they are.
"""

import functools
import math
import zlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from tlx.errors import TlxError
from tlx.models.fused_attention import fused_attention
from tlx.parallel.axis import device_index

Dtype = Any
MASK_BITS = 16
PATH = "path"  # the collection that has the hash of the path above a block that is applied by itself


def mix(x: jax.Array) -> jax.Array:
    """A bijection of uint32 in which every input bit moves every output bit (Wellons 2018, `lowbias32`)."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)


def keep_mask(key: jax.Array, rate: float, shape: tuple[int, ...]) -> tuple[jax.Array, float]:
    """Samples a dropout mask.

    The random bits are two rounds of `mix` applied to the element's index and the key. Such a counter-based generator
    depends neither on the order of evaluation nor on the devices. JAX's own generator (threefry) takes up to half of
    the time of a BERT training step on a CPU, and much of its compilation time. Sixteen bits decide each element, so
    the probability of keeping one is rounded to a multiple of 1/65536.

    Args:
      key: a PRNG key, or its uint32 words.
      rate: the probability of dropping an element.
      shape: the shape of the mask. Under `jax.pmap` it is the shape of this device's part of a mask that is divided
        over the devices along its first axis, in the order of the devices.

    Returns:
      The mask, boolean of this shape, True for elements that are kept; and the exact probability of keeping one.
    """
    words = jax.random.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key
    threshold = max(round((1 - rate) * 2**MASK_BITS), 1)
    halves = 2 if shape and shape[-1] % 2 == 0 else 1
    count = (*shape[:-1], shape[-1] // halves) if shape else ()
    index = jax.lax.iota(jnp.uint32, math.prod(count)).reshape(count)
    if (device := device_index()) is not None:
        index += device.astype(jnp.uint32) * jnp.uint32(math.prod(count))
    random = mix(mix(index ^ words[0]) + words[-1])
    if halves == 2:  # one random word decides two neighboring elements
        bits = jax.lax.bitcast_convert_type(random, jnp.uint16).reshape(shape)
    else:
        bits = (random >> MASK_BITS).astype(jnp.uint16)
    return bits <= threshold - 1, threshold / 2**MASK_BITS  # `bits < threshold` fails: 65536 does not fit in uint16


class Dropout(nn.Module):
    """Inverted dropout (Srivastava et al. 2014): elements become zero with probability `rate`, others are scaled up.

    The mask depends on the key passed to `apply` as `rngs={"dropout": key}`, the module's path and the element's
    index. A module that is called twice in one `apply` uses the same mask both times.
    """

    rate: float

    def __call__(self, x: jax.Array, deterministic: bool) -> jax.Array:
        if deterministic or self.rate == 0:
            return x
        return apply_dropout(self, self.rate, x, x.shape)


class DropPath(nn.Module):
    """Stochastic depth (Huang et al. 2016) in timm's form: a residual branch is dropped for whole examples.

    A branch is dropped with probability `rate` and scaled up for the other examples, so that the mean is unchanged. The
    mask depends on the same values as that of `Dropout`.
    """

    rate: float

    def __call__(self, x: jax.Array, deterministic: bool) -> jax.Array:
        """Applies stochastic depth to `x` (batch, …), the output of a residual branch."""
        if deterministic or self.rate == 0:
            return x
        return apply_dropout(self, self.rate, x, (x.shape[0], *(1,) * (x.ndim - 1)))


def apply_dropout(module: nn.Module, rate: float, x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Applies a dropout mask of this shape, broadcast to `x`; the elements that are kept are scaled up."""
    if not module.has_rng("dropout") or module.scope is None:
        raise TlxError('dropout needs random numbers; call apply with rngs={"dropout": jax.random.key(…)}.')
    words = jax.random.key_data(module.scope.rngs["dropout"].rng).ravel()
    keep, probability = keep_mask(mix(words + path_hash(module)), rate, shape)
    return jnp.where(keep, x / jnp.asarray(probability, x.dtype), jnp.zeros((), x.dtype))


def path_hash(module: nn.Module) -> jax.Array:
    """Returns the CRC-32 of a module's path, uint32 (), also within a block that is traced once for several paths.

    The CRC of the path above the block is then an array (see `hash_above`). A CRC is affine over GF(2) in the CRC of
    the text before: each of its bits changes the result by a constant, whatever the others are.
    """
    path, alone = "/".join(module.path).encode(), zlib.crc32("/".join(module.path).encode())
    above = None if module.scope is None else module.scope.root.get_variable(PATH, "above")
    if above is None:
        return jnp.uint32(alone)
    changes = np.array([zlib.crc32(path, 1 << bit) ^ alone for bit in range(32)], np.uint32)
    return np.uint32(alone) ^ jax.lax.reduce(changes & above, np.uint32(0), jax.lax.bitwise_xor, (0,))


def hash_above(path: str) -> dict[str, np.ndarray]:
    """Returns the collection `PATH` of a block that is applied by itself at a path: the bits of the path's CRC.

    They are masks, uint32 (32,), 0 or all ones, so that XLA can compute `path_hash` when it compiles.
    """
    crc = zlib.crc32(f"{path}/".encode())
    return {"above": np.array([0xFFFFFFFF * (crc >> bit & 1) for bit in range(32)], np.uint32)}


def depth_rates(rate: float, blocks: int) -> tuple[float, ...]:
    """Returns the stochastic depth rate of each block, rising linearly from 0 for the first to `rate` for the last.

    Huang et al. 2016, eq. 4, in timm's form.
    """
    return tuple(rate * index / max(blocks - 1, 1) for index in range(blocks))


def dense(features: int, name: str | None, dtype: Dtype, initializer_range: float, use_bias: bool = True) -> nn.Dense:
    """Returns the layer x W + b, with W initialized from N(0, initializer_range²) and b to zero."""
    kernel_init = nn.initializers.normal(initializer_range)
    return nn.Dense(features, use_bias, name=name, dtype=dtype, kernel_init=kernel_init, dot_general=product_of_rows)


def product_of_rows(x: jax.Array, kernel: jax.Array, dimension_numbers: Any, **options: Any) -> jax.Array:
    """Returns x W as a product of two matrices, whatever the number of leading axes of x.

    The gradient of W sums over all leading axes. If they are several, XLA for CPUs first transposes the gradient of the
    output into an array of its own; over one axis the product reads it as it is.

    Args:
      x: (..., inputs).
      kernel: (inputs, outputs).
      dimension_numbers: of `jax.lax.dot_general`: the last axis of x with the first of the kernel.
      **options: of `jax.lax.dot_general`.

    Returns:
      (..., outputs).
    """
    del dimension_numbers
    rows = x.reshape(-1, x.shape[-1])
    product = jax.lax.dot_general(rows, kernel, (((1,), (0,)), ((), ())), **options)
    return product.reshape(*x.shape[:-1], -1)


def layer_norm(name: str | None, dtype: Dtype, epsilon: float) -> nn.LayerNorm:
    """Returns layer norm over the last axis (Ba et al. 2016); the variance is computed in two passes."""
    return nn.LayerNorm(name=name, dtype=dtype, epsilon=epsilon, use_fast_variance=False)


@jax.custom_vjp
def fusion_barrier(x: jax.Array) -> jax.Array:
    """Returns x unchanged, and makes XLA store x and its gradient as arrays instead of recomputing them.

    XLA for CPUs considers additions cheap and recomputes a residual sum in every operation that reads it. Each sum
    contains all sums before it, so the compiled program, and the work outside matrix products, grow with the square of
    the depth. XLA does not recompute divisions. This function therefore divides by one, in a form that XLA cannot
    simplify at compile time. The division is exact and costs little next to a block. `optimization_barrier` does not
    help, because XLA removes it before it fuses operations. Programs for other devices do not contain the division.
    """
    return _divided(x)


@functools.partial(jax.jit, inline=True)  # traced once for a shape
def _divided(x: jax.Array) -> jax.Array:
    """x / 1 on CPUs, x elsewhere. The program is chosen when it is lowered for its platform."""

    def divided(x: jax.Array) -> jax.Array:
        return x / jnp.where(x > jnp.inf, 2, 1).astype(x.dtype)

    return jax.lax.platform_dependent(x, cpu=divided, default=lambda x: x)


fusion_barrier.defvjp(lambda x: (fusion_barrier(x), None), lambda _, gradient: (fusion_barrier(gradient),))


class Embedding(nn.Module):
    """An embedding table.

    Attributes:
      num_embeddings: the number of rows.
      features: the length of a row.
      dtype: the dtype of the output; None for that of the table.
      initializer_range: the standard deviation of the initial table.
      padding_id: a row that starts at zero and receives no gradient, as torch's `padding_idx`. A negative number counts
        from the end.
    """

    num_embeddings: int
    features: int
    dtype: Dtype
    initializer_range: float
    padding_id: int | None = None

    @nn.compact
    def __call__(self, ids: jax.Array) -> jax.Array:
        """Looks up `ids`, integers (...,) in [0, num_embeddings); returns (..., features)."""
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
    """Computes attention weights, softmax(Q Kᵀ / √d) over the unmasked keys (Vaswani et al. 2017, eq. 1).

    Args:
      query: (batch, length, heads, d).
      key: (batch, length, heads, d).
      mask: boolean, broadcastable to (batch, heads, queries, keys), True where a query attends to a key. As in
        transformers, the mask adds the lowest finite number to the scores, so a query whose keys are all masked
        attends to all of them equally.

    Returns:
      (batch, heads, queries, keys), in the dtype of `query`.
    """
    query = query * query.shape[-1] ** -0.5
    scores = jnp.einsum("bhqd,bhkd->bhqk", query.swapaxes(1, 2), key.swapaxes(1, 2))
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
    drop: Callable[[jax.Array], jax.Array] | None,
) -> tuple[jax.Array, jax.Array | None]:
    """Multi-head attention (Vaswani et al. 2017, 3.2.2).

    Args:
      query: (batch, length, hidden), already projected.
      key: (batch, length, hidden), already projected.
      value: (batch, length, hidden), already projected.
      heads: the number of heads.
      mask: as in `attention_weights`.
      drop: the function that applies dropout to the attention weights; None: cuDNN's kernel computes attention,
        which has neither dropout nor weights.

    Returns:
      The output (batch, length, hidden), and the attention weights after dropout (as transformers returns them), or
      None.
    """
    query, key, value = (x.reshape(*x.shape[:-1], heads, -1) for x in (query, key, value))
    if drop is None:
        weights, mixed = None, fused_attention(query, key, value, mask)
    else:
        weights = drop(attention_weights(query, key, mask))
        # einsum would compute (batch, heads, d, queries) and transpose it, which takes XLA for CPUs half as long again
        mixed = (weights @ value.swapaxes(1, 2)).swapaxes(1, 2)
    return mixed.reshape(*mixed.shape[:-2], -1), weights
