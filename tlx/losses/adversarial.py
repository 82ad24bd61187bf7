"""Domain-adversarial losses: gradient reversal and its warm start, the domain loss, and CDAN's conditioning.

Ganin et al. 2016, "Domain-Adversarial Training of Neural Networks" (DANN), and Long et al. 2018, "Conditional
Adversarial Domain Adaptation" (CDAN).
"""

import math

import chex
import jax
import jax.numpy as jnp
import optax

from tlx.losses.predictions import EPSILON, row_entropies
from tlx.losses.rows import in_float32, known_variant, positive, weight_of

MULTILINEAR_LIMIT = 4096  # largest features × classes of the multilinear map; CDAN randomizes above it
DOMAIN_SHARES = {"paper": 1.0, "tllib": 0.5}  # variant -> the factor of the sum of the two domains' mean losses


@jax.custom_vjp
def gradient_reversal(x: jax.Array, alpha: jax.Array | float = 1.0) -> jax.Array:
    """Returns x. Its gradient is multiplied by −alpha on the way back (DANN).

    Args:
      x: any float array.
      alpha: scalar, which may be traced; it has no gradient.
    """
    del alpha
    return x


def _reversal_forward(x: jax.Array, alpha: jax.Array | float) -> tuple[jax.Array, jax.Array | float]:
    return x, alpha


def _reversal_backward(alpha: jax.Array | float, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    return -jnp.asarray(alpha, gradient.dtype) * gradient, jnp.zeros_like(jnp.asarray(alpha))


gradient_reversal.defvjp(_reversal_forward, _reversal_backward)


def warm_start(progress: jax.Array | float, alpha: float = 10.0) -> jax.Array:
    """2 / (1 + exp(−alpha · progress)) − 1, the factor of the reversed gradient (DANN, with γ = 10 for alpha).

    It grows from 0 to 1. `tllib` has alpha = 1 and the steps over 1,000 as the progress, whatever the run's length: its
    factor is 0.46 at step 1,000. In a run of n steps `alpha = n / 1000` is that schedule.

    Args:
      progress: the finished fraction of the run, in [0, 1], as `Context.progress`.
      alpha: how fast it grows, at least 0.

    Returns:
      float, of the shape of progress.
    """
    return jnp.tanh(alpha * jnp.asarray(progress) / 2)  # the same function, without a difference of near numbers


def domain_cross_entropy(
    logits: jax.Array, is_source: bool, weight: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """The domain classifier's loss on the rows of one domain: Σ w · −log of the right domain's probability, and Σ w.

    Args:
      logits: (n,) or (n, 1), any float, above 0 where a row looks like the source.
      is_source: which domain the rows are of.
      weight: bool or number (n,).

    Returns:
      `(total, count)`, both ().
    """
    logits = in_float32(logits).reshape(len(logits))
    weight = weight_of(weight, logits)
    losses = optax.sigmoid_binary_cross_entropy(logits, jnp.full_like(logits, float(is_source)))
    return jnp.sum(losses * weight), weight.sum()


def domain_accuracy(logits: jax.Array, is_source: bool, weight: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
    """How many rows of one domain the domain classifier takes for rows of it: Σ w over these rows, and Σ w.

    Args:
      logits: (n,) or (n, 1), any float, above 0 where a row looks like the source.
      is_source: which domain the rows are of.
      weight: bool or number (n,).

    Returns:
      `(total, count)`, both (), without gradient.
    """
    logits = in_float32(logits).reshape(len(logits))
    weight = weight_of(weight, logits)
    return jnp.sum(((logits > 0) == is_source) * weight), weight.sum()


def domain_adversarial(
    source_logits: jax.Array,
    target_logits: jax.Array,
    source_weight: jax.Array | None = None,
    target_weight: jax.Array | None = None,
    *,
    variant: str = "paper",
) -> jax.Array:
    """The domain classifier's loss (DANN): −mean log d(source) − mean log(1 − d(target)), d = sigmoid(logits).

    The features reach the classifier through `gradient_reversal`, so that one minimization trains both sides.

    Args:
      source_logits: (n,) or (n, 1), any float.
      target_logits: (m,) or (m, 1).
      source_weight: bool or number (n,); 0 leaves a row out.
      target_weight: (m,).
      variant: `paper`, the sum of the two domains' means; `tllib`, half of it.

    Returns:
      (), float32 or the logits' higher precision. A domain without rows adds 0.

    Raises:
      TlxError: if there is no such variant.
    """
    known_variant("domain_adversarial", variant, tuple(DOMAIN_SHARES))
    sides = (
        domain_cross_entropy(source_logits, True, source_weight),
        domain_cross_entropy(target_logits, False, target_weight),
    )
    value = sum((total / positive(count) for total, count in sides), jnp.zeros(()))
    return DOMAIN_SHARES[variant] * value


def cdan_map(
    features: jax.Array,
    logits: jax.Array,
    projections: tuple[jax.Array, jax.Array] | None = None,
    *,
    variant: str = "paper",
) -> jax.Array:
    """What CDAN's domain classifier reads: features and class probabilities g = softmax(logits) together.

    It is their outer product (CDAN, the multilinear map), or (R_f f) ⊙ (R_g g) / √d with two fixed random
    matrices, which the paper takes where features × classes exceed 4,096 (the randomized multilinear map).

    Args:
      features: (n, hidden), any float.
      logits: (n, classes).
      projections: R_f (hidden, d) and R_g (classes, d), as `cdan_projections` makes them; None for the outer product.
      variant: `paper`, in which the gradient passes through g, as in the paper's objective; `tllib`, in which it does
        not, as in the authors' code.

    Returns:
      (n, classes · hidden), the classes slower; with projections (n, d).

    Raises:
      TlxError: if there is no such variant.
    """
    known_variant("cdan_map", variant, ("paper", "tllib"))
    chex.assert_equal_shape_prefix([features, logits], 1)
    g = jax.nn.softmax(in_float32(logits))
    g = g if variant == "paper" else jax.lax.stop_gradient(g)
    if projections is None:
        return (g[:, :, None] * features[:, None, :]).reshape(len(features), -1)
    of_features, of_classes = projections
    return (features @ of_features) * (g @ of_classes) / math.sqrt(of_features.shape[1])


def cdan_projections(key: jax.Array, hidden: int, classes: int, size: int) -> tuple[jax.Array, jax.Array]:
    """Two random matrices of standard normal entries for `cdan_map`: (hidden, size) and (classes, size), float32."""
    of_features, of_classes = jax.random.split(key)
    return jax.random.normal(of_features, (hidden, size)), jax.random.normal(of_classes, (classes, size))


def entropy_weights(
    source_logits: jax.Array,
    target_logits: jax.Array,
    source_weight: jax.Array | None = None,
    target_weight: jax.Array | None = None,
    *,
    variant: str = "paper",
) -> tuple[jax.Array, jax.Array]:
    """How much each row counts in CDAN+E's domain loss: 1 + exp(−H(g)), more where the prediction is certain.

    They are to be given to a mean over all rows (Σ w · loss / n in CDAN+E), not to one over Σ w.

    Args:
      source_logits: (n, classes), any float.
      target_logits: (m, classes).
      source_weight: bool or number (n,), times which a row counts; 0 leaves a row out.
      target_weight: (m,).
      variant: `paper`, as they are; `tllib`, scaled to a mean of 1 over both domains together, with ε = 1e-5 inside the
        logarithm, and without gradient; `pytorch_adapt`, scaled to a sum of 1 in each domain, and without gradient.

    Returns:
      (n,) and (m,), float32 or the logits' higher precision.

    Raises:
      TlxError: if there is no such variant.
    """
    known_variant("entropy_weights", variant, ("paper", "tllib", "pytorch_adapt"))
    epsilon = EPSILON if variant == "tllib" else 0.0
    counts, weights = [], []
    for logits, given in ((source_logits, source_weight), (target_logits, target_weight)):
        entropies = row_entropies(logits, epsilon)
        counts.append(weight_of(given, entropies))
        weights.append(counts[-1] * (1 + jnp.exp(-entropies)))
    if variant == "tllib":
        scale = jnp.concatenate(counts).sum() / positive(jnp.concatenate(weights).sum())
        weights = [weight * scale for weight in weights]
    elif variant == "pytorch_adapt":
        weights = [weight / positive(weight.sum()) for weight in weights]
    source, target = weights if variant == "paper" else jax.lax.stop_gradient(weights)
    return source, target
