"""Keys by example: what is drawn for an image depends on the run's seed, the step and its `example_id` alone.

An example's key is threefry's. What is drawn from it is a hash of the key and a counter, as in dropout
(`models/layers.py`): a chain of threefry's splits takes minutes to compile once a dozen operations draw.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from tlx.errors import TlxError
from tlx.models.layers import mix


def split_ids(example_id: np.ndarray) -> np.ndarray:
    """int64 ids (batch,) as uint32 (batch, 2), low half first: all that JAX can carry while x64 is off."""
    return np.ascontiguousarray(example_id, dtype="<i8").view("<u4").reshape(-1, 2)


def id_halves(example_id: jax.Array | np.ndarray) -> tuple[jax.Array, jax.Array]:
    """The low and the high 32 bits, uint32 (batch,) each.

    Args:
      example_id: integers (batch,), or what `split_ids` made of them. With x64 off, JAX cuts int64 ids outside of
        [-2³¹, 2³¹) to 32 bits before this function sees them: split those on the host.
    """
    if isinstance(example_id, np.ndarray) and example_id.dtype == np.int64:
        example_id = split_ids(example_id)
    if example_id.ndim == 2 and example_id.shape[1] == 2 and example_id.dtype == jnp.uint32:
        return jnp.asarray(example_id[:, 0]), jnp.asarray(example_id[:, 1])
    if example_id.ndim != 1 or not jnp.issubdtype(example_id.dtype, jnp.integer):
        raise TlxError(
            "example_id must be integers (batch,), or uint32 (batch, 2) from split_ids; "
            f"found {example_id.dtype} {example_id.shape}."
        )
    if example_id.dtype.itemsize == 8:
        return jnp.asarray(example_id).astype(jnp.uint32), jnp.asarray(example_id >> 32).astype(jnp.uint32)
    signed = jnp.issubdtype(example_id.dtype, jnp.signedinteger)
    high = example_id >> (8 * example_id.dtype.itemsize - 1) if signed else jnp.zeros_like(example_id)
    return jnp.asarray(example_id).astype(jnp.uint32), jnp.asarray(high).astype(jnp.uint32)


def example_keys(key: jax.Array, example_id: jax.Array | np.ndarray) -> jax.Array:
    """A key for each example, (batch,): both halves of its id folded into `key`, which is of the run's seed and step.

    An id gives the same key whether it comes as int32, int64 or split. Padding rows (-1) all have one key.
    """
    low, high = id_halves(example_id)
    return jax.vmap(lambda low, high: jax.random.fold_in(jax.random.fold_in(key, low), high))(low, high)


def _words(key: jax.Array) -> jax.Array:
    return jax.random.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key


def derive(key: jax.Array, number: int) -> jax.Array:
    """The key of stream `number` of a key, as uint32 words; each number gives another bijection of them."""
    words = _words(key)
    return mix(words + mix(jnp.arange(1, words.size + 1, dtype=jnp.uint32) + jnp.uint32(number * words.size)))


def uniforms(key: jax.Array, *shape: int) -> jax.Array:
    """Multiples of 2⁻²⁴ uniform in [0, 1), float32 of this shape."""
    words = _words(key)
    index = jax.lax.iota(jnp.uint32, math.prod(shape)).reshape(shape)
    return (mix(mix(index ^ words[0]) + words[-1]) >> 8).astype(jnp.float32) * jnp.float32(2**-24)


def between(uniform: jax.Array, low: jax.Array | float, high: jax.Array | float) -> jax.Array:
    """A uniform of [0, 1) stretched to [low, high)."""
    return low + uniform * (high - low)


def below(uniform: jax.Array, count: jax.Array | int) -> jax.Array:
    """A uniform of [0, 1) as one of 0 … count - 1, int32."""
    return jnp.minimum(jnp.floor(uniform * count).astype(jnp.int32), count - 1)
