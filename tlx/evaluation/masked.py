"""Masked language modelling: what is kept of the logits of chosen tokens, and metrics of them.

The logits of a whole set would be vocabulary times as large as its texts, so the device reduces those of a token to
four numbers.
"""

import jax
import jax.numpy as jnp
import numpy as np

BEST, PROBABILITY, LOSS, CHOSEN = range(4)  # columns of `token_scores`
COLUMNS = 4


def token_scores(logits: jax.Array, labels: jax.Array | None = None, chosen: jax.Array | None = None) -> jax.Array:
    """Reduces the logits of tokens.

    Args:
      logits: (rows, tokens, vocabulary).
      labels: integers (rows, tokens), what the tokens are; None: it is not known.
      chosen: (rows, tokens), nonzero for the tokens that are measured.

    Returns:
      float32 (rows, tokens, 4): the id of the most probable token, its probability, -log of the label's probability,
      and 1 for tokens that are measured. Without labels the last two are 0.
    """
    log_probabilities = jax.nn.log_softmax(logits.astype(jnp.float32))
    best, highest = jnp.argmax(logits, axis=-1), jnp.exp(jnp.max(log_probabilities, axis=-1))
    if labels is None or chosen is None:
        loss = measured = jnp.zeros_like(highest)
    else:
        loss = -jnp.take_along_axis(log_probabilities, labels[..., None], axis=-1)[..., 0]
        measured = (chosen != 0).astype(highest.dtype)
    return jnp.stack([best.astype(highest.dtype), highest, loss, measured], axis=-1)


def spread(scores: jax.Array, positions: jax.Array, length: int) -> jax.Array:
    """Returns the scores of measured tokens at their places in rows of this length, and 0 elsewhere.

    Args:
      scores: (rows, tokens, 4), as of `token_scores`.
      positions: integers (rows, tokens), the place of each token in its row.
      length: the number of tokens of a row.
    """
    rows = jnp.arange(scores.shape[0])[:, None]
    measured = scores * scores[..., CHOSEN:]
    return jnp.zeros((scores.shape[0], length, COLUMNS), scores.dtype).at[rows, positions].add(measured)


def measured_tokens(scores: np.ndarray) -> np.ndarray:
    """Returns which tokens of (tokens, 4) are measured, bool (tokens,)."""
    return scores[:, CHOSEN] > 0


def mean_loss(scores: np.ndarray, labels: np.ndarray | None = None) -> float:
    """Returns the mean cross entropy of measured tokens in nats.

    Args:
      scores: (tokens, 4).
      labels: not used.
    """
    del labels
    return float(scores[:, LOSS].astype(np.float64).mean())


def perplexity(scores: np.ndarray, labels: np.ndarray | None = None) -> float:
    """Returns exp of the mean cross entropy of measured tokens, (tokens, 4); `labels` are not used."""
    return float(np.exp(mean_loss(scores, labels)))


def accuracy(scores: np.ndarray, labels: np.ndarray) -> float:
    """Returns the share of measured tokens whose most probable token is the right one.

    Args:
      scores: (tokens, 4).
      labels: integers (tokens,).
    """
    return float((scores[:, BEST] == labels).mean())
