"""Attention rollout (Abnar & Zuidema 2020, 3): how much of each patch arrives in the first token."""

from collections.abc import Sequence

import numpy as np


def rollout(attentions: Sequence[np.ndarray]) -> np.ndarray:
    """The product over blocks of (A + I) / 2, A a block's attention averaged over its heads (their eq. 1).

    Args:
      attentions: (batch, heads, tokens, tokens) of each block, from the bottom up.

    Returns:
      float64 (batch, tokens, tokens): row i says of which tokens of the input token i is made; rows add up to 1.
    """
    tokens = attentions[0].shape[-1]
    whole: np.ndarray = np.broadcast_to(np.eye(tokens), (len(attentions[0]), tokens, tokens))
    for attention in attentions:
        mean = attention.astype(np.float64).mean(axis=1)
        whole = (mean + np.eye(tokens)) / 2 @ whole
    return whole
