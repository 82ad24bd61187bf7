"""What losses between sets of rows share: weights, weighted means, pairwise distances."""

import chex
import jax
import jax.numpy as jnp

from tlx.errors import TlxError, listed


def in_float32(x: jax.Array) -> jax.Array:
    """Returns float64 and float32 as they are, and lower precisions as float32."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def weight_of(weight: jax.Array | None, rows: jax.Array) -> jax.Array:
    """Returns the weights as floats, (rows,); without weights, ones.

    Args:
      weight: bool or number (rows,), such as the field `valid` of a batch; None: every row counts 1.
      rows: the array whose first axis is weighted.
    """
    if weight is None:
        return jnp.ones(len(rows), rows.dtype)
    chex.assert_shape(weight, (len(rows),))
    return weight.astype(rows.dtype)


def weighted_mean(values: jax.Array, weight: jax.Array) -> jax.Array:
    """Σ w v / Σ w along the first axis; 0 if all weights are 0."""
    total = jnp.tensordot(weight, values, axes=1)
    return total / positive(weight.sum())


def positive(count: jax.Array) -> jax.Array:
    """Returns a number to divide by: the count itself, or 1 where it is 0."""
    return jnp.where(count > 0, count, jnp.ones_like(count))


def squared_distances(x: jax.Array, y: jax.Array, x_weight: jax.Array, y_weight: jax.Array) -> jax.Array:
    """‖x_i − y_j‖², as ‖x‖² + ‖y‖² − 2 x·y after both sets were moved such that their means are opposite.

    In this form the rounding error is a share of ‖x‖² + ‖y‖², which far from the origin may be larger than the distance
    itself. Around the point between the means it is a share of the sets' spread and their distance. An array of all
    differences, (n, m, features), would be exact, but takes hundreds of times as long and as much memory.

    Args:
      x: (n, features).
      y: (m, features).
      x_weight: (n,); rows of weight 0 do not enter the mean.
      y_weight: (m,).

    Returns:
      (n, m), at least 0.
    """
    centre = jax.lax.stop_gradient((weighted_mean(x, x_weight) + weighted_mean(y, y_weight)) / 2)
    x, y = x - centre, y - centre  # distances do not depend on the centre, so it has no gradient
    products = jnp.matmul(x, y.T, precision=jax.lax.Precision.HIGHEST)
    return jnp.maximum(jnp.sum(x * x, axis=1)[:, None] + jnp.sum(y * y, axis=1) - 2 * products, 0)


def known_variant(function: str, variant: str, known: tuple[str, ...]) -> None:
    """Raises `TlxError` if a loss has no such variant."""
    if variant not in known:
        raise TlxError(f"{function} has no variant {variant!r}; it has {listed(known)}.")
