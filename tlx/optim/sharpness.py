"""Sharpness-aware minimisation (Foret et al. 2021): descend by the gradient at the worst point near by."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from tlx.errors import TlxError

Perturbation = Callable[[Any, Any], Any]  # (parameters, gradient) -> the point at which the gradient is taken again


def sharpness_aware(radius: float, adaptive: bool = False) -> Perturbation:
    """w + ρ ∇L / ‖∇L‖ (eq. 2 with p = 2), the norm over all that learns; the gradient there is what eq. 3 descends by.

    `optax.contrib.sam` does the same around an optimizer. Here it is a step from point to point, so that clipping, the
    groups and the accumulated micro-batches see one gradient, and a gradient of zero stays where it is.

    Args:
      radius: ρ; 0.05 in the paper.
      adaptive: ASAM (Kwon et al. 2021, eq. 5 with T = |w|): w + ρ w² ∇L / ‖|w| ∇L‖, for which ρ is about ten times
        larger. The norm of this step does not depend on how the weights are scaled.
    """
    if not radius > 0:
        raise TlxError(f"SAM's radius is {radius}; it is above 0.")

    def ascend(params: Any, gradient: Any) -> Any:
        step = jax.tree.map(lambda g, w: g * jnp.abs(w), gradient, params) if adaptive else gradient
        scale = radius / jnp.maximum(optax.global_norm(step), 1e-12)
        if adaptive:
            step = jax.tree.map(lambda s, w: s * jnp.abs(w), step, params)
        return jax.tree.map(lambda w, s: w + (scale * s).astype(w.dtype), params, step)

    return ascend
