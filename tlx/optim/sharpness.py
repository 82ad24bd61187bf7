"""Sharpness-aware minimization, SAM (Foret et al. 2021): use the gradient at the nearby point with the highest loss."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from tlx.errors import TlxError

Perturbation = Callable[[Any, Any], Any]  # (parameters, gradient) -> perturbed parameters


def sharpness_aware(radius: float, adaptive: bool = False) -> Perturbation:
    """Returns the perturbation of SAM: w + ρ ∇L / ‖∇L‖ (eq. 2 with p = 2), with the norm over all trainable parameters.

    The optimizer then uses the gradient at the perturbed parameters (eq. 3). `optax.contrib.sam` wraps an optimizer
    instead; a separate perturbation lets clipping, groups and accumulated micro-batches use one gradient. A gradient of
    zero leaves the parameters unchanged.

    Args:
      radius: ρ; 0.05 in the paper.
      adaptive: whether to use ASAM (Kwon et al. 2021, eq. 5 with T = |w|): w + ρ w² ∇L / ‖|w| ∇L‖. The size of this
        step does not depend on the scale of the weights; ρ is about ten times larger than for SAM.

    Raises:
      TlxError: if ρ is not above 0.
    """
    if not radius > 0:
        raise TlxError(f"SAM's radius is {radius}; it must be above 0.")

    def ascend(params: Any, gradient: Any) -> Any:
        step = jax.tree.map(lambda g, w: g * jnp.abs(w), gradient, params) if adaptive else gradient
        scale = radius / jnp.maximum(optax.global_norm(step), 1e-12)
        if adaptive:
            step = jax.tree.map(lambda s, w: s * jnp.abs(w), step, params)
        return jax.tree.map(lambda w, s: w + (scale * s).astype(w.dtype), params, step)

    return ascend
