"""Keys for examples: an image's random numbers depend only on the run's seed, the step and its `example_id`.

The key of an example is computed by JAX's generator (threefry). Random numbers are then a hash of the key and a
counter, as in dropout (`models/layers.py`), because chains of threefry splits for a dozen operations take minutes to
compile.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from tlx.errors import TlxError
from tlx.models.layers import mix


def split_ids(example_id: np.ndarray) -> np.ndarray:
    """Splits int64 ids (batch,) into uint32 (batch, 2), low half first, because JAX has no int64 without x64."""
    return np.ascontiguousarray(example_id, dtype="<i8").view("<u4").reshape(-1, 2)


def id_halves(example_id: jax.Array | np.ndarray) -> tuple[jax.Array, jax.Array]:
    """Returns the low and the high 32 bits of ids, uint32 (batch,) each.

    Args:
      example_id: integers (batch,), or the result of `split_ids`. Without x64, JAX truncates int64 values to 32 bits
        when they become JAX arrays, so ids outside [-2³¹, 2³¹) must be split on the host.

    Raises:
      TlxError: if `example_id` has another shape or dtype.
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
    """Returns a key for each example, (batch,), by folding both halves of its id into a key.

    The result is the same for ids in int32, in int64 or split. All rows of padding (-1) have the same key.

    Args:
      key: the key of the run's seed and the step.
      example_id: as in `id_halves`.
    """
    low, high = id_halves(example_id)
    return jax.vmap(lambda low, high: jax.random.fold_in(jax.random.fold_in(key, low), high))(low, high)


def _words(key: jax.Array) -> jax.Array:
    return jax.random.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key


def derive(key: jax.Array, number: int) -> jax.Array:
    """Derives key number `number` from a key, as uint32 words; each number applies another bijection to the words."""
    words = _words(key)
    return mix(words + mix(jnp.arange(1, words.size + 1, dtype=jnp.uint32) + jnp.uint32(number * words.size)))


def uniforms(key: jax.Array, *shape: int) -> jax.Array:
    """Samples uniform multiples of 2⁻²⁴ in [0, 1), float32 of this shape."""
    words = _words(key)
    index = jax.lax.iota(jnp.uint32, math.prod(shape)).reshape(shape)
    return (mix(mix(index ^ words[0]) + words[-1]) >> 8).astype(jnp.float32) * jnp.float32(2**-24)


def between(uniform: jax.Array, low: jax.Array | float, high: jax.Array | float) -> jax.Array:
    """Maps uniform numbers in [0, 1) to [low, high)."""
    return low + uniform * (high - low)


def below(uniform: jax.Array, count: jax.Array | int) -> jax.Array:
    """Maps uniform numbers in [0, 1) to integers 0 … count - 1, int32."""
    return jnp.minimum(jnp.floor(uniform * count).astype(jnp.int32), count - 1)
