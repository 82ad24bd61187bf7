"""L2-SP (Li et al. 2018, eq. 3): weight decay towards the starting point instead of towards zero."""

from typing import Any

import jax
import jax.numpy as jnp

from tlx.errors import TlxError


def l2_sp(params: Any, anchors: Any, alpha: float, beta: float) -> jax.Array:
    """α/2 · ‖w_S − w_S⁰‖² + β/2 · ‖w_new‖², part of the loss as in the paper; w_S is what has an anchor.

    Its gradient passes through Adam's scaling with the rest of the loss. Decay is another thing (it is decoupled), so
    give no weight decay beside it.

    Args:
      params: the leaves that learn; None where one does not.
      anchors: w⁰, the checkpoint's values in the same structure; None for a leaf that is new or does not learn.
      alpha, beta: at least 0.
    """
    if alpha < 0 or beta < 0:
        raise TlxError(f"L2-SP's alpha and beta are {alpha} and {beta}; they are at least 0.")

    def term(leaf: Any, anchor: Any) -> jax.Array:
        if leaf is None:
            return jnp.zeros(())
        return alpha / 2 * jnp.square(leaf - anchor).sum() if anchor is not None else beta / 2 * jnp.square(leaf).sum()

    terms = jax.tree.map(term, params, anchors, is_leaf=lambda leaf: leaf is None)
    return sum(jax.tree.leaves(terms), jnp.zeros(()))
