"""Keys by example: what is drawn for an image depends on the run's seed, the step and its `example_id` alone."""

import jax
import jax.numpy as jnp
import numpy as np

from tlx.errors import TlxError


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
