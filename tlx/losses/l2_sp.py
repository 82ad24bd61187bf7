"""L2-SP (Li et al. 2018, eq. 3): weight decay towards the starting point instead of towards zero."""

from typing import Any

import jax
import jax.numpy as jnp

from tlx.errors import TlxError


def l2_sp(params: Any, anchors: Any, alpha: float, beta: float) -> jax.Array:
    """The penalty α/2 · ‖w_S − w_S⁰‖² + β/2 · ‖w_new‖², where w_S are the parameters that have an anchor w_S⁰.

    It is a term of the loss, as in the paper, so its gradient is scaled by Adam. AdamW's weight decay is decoupled
    instead; set it to 0 when this penalty is used.

    Args:
      params: the trained leaves; None for a frozen leaf.
      anchors: w⁰, the checkpoint's values in the same structure; None for a leaf that is new or frozen.
      alpha: α, at least 0.
      beta: β, at least 0.

    Returns:
      The penalty, ().

    Raises:
      TlxError: if alpha or beta is negative.
    """
    if alpha < 0 or beta < 0:
        raise TlxError(f"L2-SP's alpha and beta are {alpha} and {beta}; they are at least 0.")

    def term(leaf: Any, anchor: Any) -> jax.Array:
        if leaf is None:
            return jnp.zeros(())
        return alpha / 2 * jnp.square(leaf - anchor).sum() if anchor is not None else beta / 2 * jnp.square(leaf).sum()

    terms = jax.tree.map(term, params, anchors, is_leaf=lambda leaf: leaf is None)
    return sum(jax.tree.leaves(terms), jnp.zeros(()))
