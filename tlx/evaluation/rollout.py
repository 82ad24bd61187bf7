"""Attention rollout (Abnar & Zuidema 2020, section 3): how much each input token contributes to each output token."""

from collections.abc import Sequence

import numpy as np


def rollout(attentions: Sequence[np.ndarray]) -> np.ndarray:
    """Returns the product over blocks of (A + I) / 2, where A is the block's attention averaged over heads (eq. 1).

    Args:
      attentions: the attention weights (batch, heads, tokens, tokens) of each block, from the bottom up.

    Returns:
      float64 (batch, tokens, tokens): row i contains the contribution of each input token to the output token i. The
      sum of a row is 1.
    """
    tokens = attentions[0].shape[-1]
    product: np.ndarray = np.broadcast_to(np.eye(tokens), (len(attentions[0]), tokens, tokens))
    for attention in attentions:
        mean = attention.astype(np.float64).mean(axis=1)
        product = (mean + np.eye(tokens)) / 2 @ product
    return product
