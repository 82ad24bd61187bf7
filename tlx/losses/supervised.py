"""Losses against given answers. Each returns a weighted sum and the sum of weights; the mean is their ratio."""

import chex
import jax
import jax.numpy as jnp
import optax


def cross_entropy(
    logits: jax.Array,
    labels: jax.Array,
    weight: jax.Array,
    label_smoothing: float = 0.0,
    class_weights: tuple[float, ...] = (),
) -> tuple[jax.Array, jax.Array]:
    """-Σ_c q_c log softmax(logits)_c, with q = 1 at the label.

    Args:
      logits: (…, classes).
      labels: integers (…,), or q itself (…, classes), as mixing images gives it.
      weight: (…,); 0 leaves an answer out, and its label may be any number, such as -100.
      label_smoothing: ε; q is then (1 - ε) q plus ε / classes everywhere (Szegedy et al. 2016, 7).
      class_weights: by class; multiplies the weight of every answer of that class, in the sum and in the count; of a q
        of several classes, by their shares.
    """
    chex.assert_equal_shape_prefix([logits, weight], weight.ndim)
    soft = labels.ndim == logits.ndim
    if not soft:  # out of the classes' range the cross entropy is NaN, and so is 0 times it
        labels = jnp.where(weight == 0, 0, labels)
    chex.assert_equal_shape([labels, logits] if soft else [labels, weight])
    if soft or label_smoothing:
        q = labels if soft else jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
        losses = optax.softmax_cross_entropy(logits, optax.smooth_labels(q, label_smoothing) if label_smoothing else q)
    else:
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    if class_weights:
        of_class = jnp.asarray(class_weights, losses.dtype)
        weight = weight * (labels @ of_class if soft else of_class[labels])
    return jnp.sum(losses * weight), jnp.sum(weight)


def binary_cross_entropy(
    logits: jax.Array, labels: jax.Array, weight: jax.Array, class_weights: tuple[float, ...] = ()
) -> tuple[jax.Array, jax.Array]:
    """The binary cross entropy of every label on its own, averaged over labels.

    Args:
      logits: (batch, labels).
      labels: 0 to 1, (batch, labels).
      weight: (batch,).
      class_weights: by label; multiplies the loss where the label is 1, and in between by its share.
    """
    chex.assert_equal_shape([logits, labels])
    chex.assert_shape(weight, logits.shape[:1])
    targets = labels.astype(logits.dtype)
    losses = optax.sigmoid_binary_cross_entropy(logits, targets)
    if class_weights:
        losses = losses * (1 + targets * (jnp.asarray(class_weights, losses.dtype) - 1))
    return jnp.sum(jnp.mean(losses, axis=-1) * weight), jnp.sum(weight)


def squared_error(predictions: jax.Array, targets: jax.Array, weight: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Squared error, averaged over outputs. predictions, targets: (batch, outputs); weight: (batch,)."""
    chex.assert_equal_shape([predictions, targets])
    chex.assert_shape(weight, predictions.shape[:1])
    losses = jnp.mean(jnp.square(predictions - targets), axis=-1)
    return jnp.sum(losses * weight), jnp.sum(weight)
