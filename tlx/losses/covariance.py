"""CORAL: the distance of two sets' covariances (Sun & Saenko 2016, "Deep CORAL")."""

import chex
import jax
import jax.numpy as jnp

from tlx.losses.rows import in_float32, known_variant, weight_of, weighted_mean


def coral(
    source: jax.Array,
    target: jax.Array,
    source_weight: jax.Array | None = None,
    target_weight: jax.Array | None = None,
    *,
    variant: str = "paper",
) -> jax.Array:
    """‖C_S − C_T‖²_F / (4 d²), the distance of the covariances of two sets (Deep CORAL).

    A covariance is the sum of (x − mean)(x − mean)ᵀ over n − 1. Rows are centred first, because the paper's form,
    Σ x xᵀ − n mean meanᵀ, loses the digits of float32 where means are large.

    Args:
      source: (n, d), any float.
      target: (m, d).
      source_weight: bool or number (n,); how often a row counts, 0 for padding.
      target_weight: (m,).
      variant: `paper`; `pytorch_adapt`, which is the same; `tllib`, the mean square without the factor 1/4, and a term
        for the means: Σ (C_S − C_T)² / d² + Σ (mean_S − mean_T)² / d.

    Returns:
      (), float32 or the inputs' higher precision; 0 if a set has fewer than two rows.

    Raises:
      TlxError: if there is no such variant.
    """
    known_variant("coral", variant, ("paper", "tllib", "pytorch_adapt"))
    chex.assert_equal(source.shape[1:], target.shape[1:])
    means, covariances, enough = [], [], []
    for rows, given in ((in_float32(source), source_weight), (in_float32(target), target_weight)):
        weight = weight_of(given, rows)
        mean = weighted_mean(rows, weight)
        centred = rows - mean
        scatter = jnp.matmul((centred * weight[:, None]).T, centred, precision=jax.lax.Precision.HIGHEST)
        enough.append(weight.sum() > 1)
        covariances.append(scatter / jnp.where(enough[-1], weight.sum() - 1, 1))
        means.append(mean)
    squares = jnp.mean(jnp.square(covariances[0] - covariances[1]))
    value = squares / 4 if variant != "tllib" else squares + jnp.mean(jnp.square(means[0] - means[1]))
    return jnp.where(enough[0] & enough[1], value, 0)
