"""Losses of unlabelled predictions: entropy, information maximization, class confusion, discrepancy of two classifiers.

All of them take logits, and take logarithms of probabilities from `log_softmax`, so that none needs an epsilon. Some
published implementations add one inside the logarithm; their variants do so too.
"""

import chex
import jax
import jax.numpy as jnp

from tlx.losses.rows import in_float32, known_variant, positive, weight_of, weighted_mean

EPSILON = 1e-5  # inside the logarithm of the variants `tllib` and `authors`


def row_entropies(logits: jax.Array, epsilon: float = 0.0) -> jax.Array:
    """−Σ_c p_c log(p_c + ε) of each row, in nats; p = softmax(logits).

    Args:
      logits: (…, classes), any float.
      epsilon: ε, at least 0.

    Returns:
      (…), float32 or the logits' higher precision; between 0 and log(classes) if ε is 0.
    """
    log_p = jax.nn.log_softmax(in_float32(logits))
    p = jnp.exp(log_p)
    return -jnp.sum(p * (jnp.log(p + epsilon) if epsilon else log_p), axis=-1)


def entropy(logits: jax.Array, weight: jax.Array | None = None, *, variant: str = "paper") -> jax.Array:
    """The mean entropy of the predictions (Grandvalet & Bengio 2005), in nats.

    Args:
      logits: (n, classes), any float.
      weight: bool or number (n,); 0 leaves a row out.
      variant: `paper`; `pytorch_adapt`, which is the same; `tllib`, with ε = 1e-5 inside the logarithm.

    Returns:
      (), float32 or the logits' higher precision; 0 without rows.

    Raises:
      TlxError: if there is no such variant.
    """
    known_variant("entropy", variant, ("paper", "tllib", "pytorch_adapt"))
    entropies = row_entropies(logits, EPSILON if variant == "tllib" else 0.0)
    return weighted_mean(entropies, weight_of(weight, entropies))


def information_maximization(
    logits: jax.Array, weight: jax.Array | None = None, *, variant: str = "paper"
) -> jax.Array:
    """The mean entropy minus the entropy of the mean prediction, in nats (SHOT: Liang et al. 2020, L_ent + L_div).

    It is minus the mutual information of row and class: lowest, −log(classes), if predictions are certain and classes
    equally frequent.

    Args:
      logits: (n, classes), any float.
      weight: bool or number (n,); 0 leaves a row out.
      variant: `paper`; `authors`, with ε = 1e-5 inside both logarithms; `pytorch_adapt`, which takes the entropy of the
        softmax of the mean logits in place of that of the mean prediction.

    Returns:
      (), float32 or the logits' higher precision; 0 without rows.

    Raises:
      TlxError: if there is no such variant.
    """
    known_variant("information_maximization", variant, ("paper", "authors", "pytorch_adapt"))
    logits = in_float32(logits)
    weight = weight_of(weight, logits)
    if variant == "pytorch_adapt":
        spread = row_entropies(weighted_mean(logits, weight))
    else:
        mean = weighted_mean(jax.nn.softmax(logits), weight)
        # Where a class has no probability, x log x is 0; so is the derivative of its entropy with respect to logits.
        logs = jnp.log(mean + EPSILON) if variant == "authors" else jnp.log(positive(mean))
        spread = -jnp.sum(mean * logs)
    entropies = row_entropies(logits, EPSILON if variant == "authors" else 0.0)
    return jnp.where(weight.sum() > 0, weighted_mean(entropies, weight) - spread, 0)


def minimum_class_confusion(
    logits: jax.Array, weight: jax.Array | None = None, *, temperature: float = 2.5, variant: str = "paper"
) -> jax.Array:
    """The mean, over classes, of how much they are confused with others (MCC: Jin et al. 2020).

    Y = softmax(logits / T); a row i weighs 1 + exp(−H(Y_i)); C = Yᵀ W Y; each row of C is divided by its sum; the loss
    is the sum of its entries off the diagonal over the number of classes.

    Args:
      logits: (n, classes), any float.
      weight: bool or number (n,), times which a row weighs; 0 leaves a row out.
      temperature: T, above 0.
      variant: `paper`; `tllib`, in which no gradient passes through W and the entropies have ε = 1e-5 inside the
        logarithm; `pytorch_adapt`, in which no gradient passes through W (its default T is 1).

    Returns:
      (), float32 or the logits' higher precision, from 0 to 1 − 1 / classes; 0 without rows.

    Raises:
      TlxError: if there is no such variant.
    """
    known_variant("minimum_class_confusion", variant, ("paper", "tllib", "pytorch_adapt"))
    logits = in_float32(logits) / temperature
    y, classes = jax.nn.softmax(logits), logits.shape[-1]
    uncertain = 1 + jnp.exp(-row_entropies(logits, EPSILON if variant == "tllib" else 0.0))
    uncertain = uncertain if variant == "paper" else jax.lax.stop_gradient(uncertain)
    # The paper scales W to a sum of n, which the division by the rows' sums cancels.
    rows = y * (weight_of(weight, y) * uncertain)[:, None]
    confusion = jnp.matmul(rows.T, y, precision=jax.lax.Precision.HIGHEST)
    confused = jnp.sum(confusion * (1 - jnp.eye(classes, dtype=y.dtype)), axis=1)
    return jnp.sum(confused / positive(confusion.sum(axis=1))) / classes


def mcd_discrepancy(first: jax.Array, second: jax.Array, weight: jax.Array | None = None) -> jax.Array:
    """How far two classifiers' predictions are apart: the mean of |p₁ − p₂| over classes and rows (Saito et al. 2018:
    1/K Σ_k |p₁ₖ − p₂ₖ|).

    Args:
      first: logits (n, classes), any float.
      second: logits (n, classes).
      weight: bool or number (n,); 0 leaves a row out.

    Returns:
      (), float32 or the logits' higher precision, from 0 to 2 / classes; 0 without rows.
    """
    chex.assert_equal_shape([first, second])
    apart = jnp.abs(jax.nn.softmax(in_float32(first)) - jax.nn.softmax(in_float32(second)))
    return weighted_mean(apart.mean(axis=-1), weight_of(weight, apart))
