"""Losses of predictions against labels.

Each returns (total, count): the weighted sum of the losses and the sum of the weights. The mean loss is their ratio.
"""

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
    """The cross entropy -Σ_c q_c log softmax(logits)_c, where q is 1 at the label.

    Args:
      logits: (…, classes).
      labels: integers (…,), or the probabilities q, (…, classes), as mixup and CutMix produce them.
      weight: (…,); 0 leaves an example or token out, whose label may then be any number, such as -100.
      label_smoothing: ε; q is replaced by (1 - ε) q + ε / classes (Szegedy et al. 2016, section 7).
      class_weights: a weight for each class, which multiplies `weight` in the sum and in the count. For probabilities q
        it is Σ_c q_c class_weights_c. (): none.

    Returns:
      (total, count), each ().
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
    """The binary cross entropy, averaged over labels.

    Args:
      logits: (batch, labels).
      labels: values in [0, 1], (batch, labels).
      weight: (batch,).
      class_weights: a weight w for each label: the loss at a label y is multiplied by 1 + y (w - 1). (): none.

    Returns:
      (total, count), each ().
    """
    chex.assert_equal_shape([logits, labels])
    chex.assert_shape(weight, logits.shape[:1])
    targets = labels.astype(logits.dtype)
    losses = optax.sigmoid_binary_cross_entropy(logits, targets)
    if class_weights:
        losses = losses * (1 + targets * (jnp.asarray(class_weights, losses.dtype) - 1))
    return jnp.sum(jnp.mean(losses, axis=-1) * weight), jnp.sum(weight)


def squared_error(predictions: jax.Array, targets: jax.Array, weight: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The squared error, averaged over outputs.

    Args:
      predictions: (batch, outputs).
      targets: (batch, outputs).
      weight: (batch,).

    Returns:
      (total, count), each ().
    """
    chex.assert_equal_shape([predictions, targets])
    chex.assert_shape(weight, predictions.shape[:1])
    losses = jnp.mean(jnp.square(predictions - targets), axis=-1)
    return jnp.sum(losses * weight), jnp.sum(weight)


def span_cross_entropy(logits: jax.Array, labels: jax.Array, weight: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The mean of the cross entropies of a span's first and last token, over the tokens of each window.

    It is the loss of transformers' question answering models, except that padding is no token that could be chosen.

    Args:
      logits: (rows, length, 2).
      labels: (rows, length, 2), 1 in column 0 at the first token of each window's span, and in column 1 at its last.
      weight: (rows, length), the number of each token's window in its row, from 1; 0 for tokens of no window.

    Returns:
      (total, count), each (); the count is that of windows.
    """
    chex.assert_equal_shape([logits, labels])
    chex.assert_equal_shape_prefix([logits, weight], 2)
    most = logits.shape[1] + 1

    def of_row(scores: jax.Array, ends: jax.Array, window: jax.Array) -> tuple[jax.Array, jax.Array]:
        inside = (window > 0)[:, None]
        highest = jax.ops.segment_max(jax.lax.stop_gradient(scores), window, most)[window]
        total = jax.ops.segment_sum(jnp.where(inside, jnp.exp(scores - highest), 0.0), window, most)
        right = jax.ops.segment_sum(jnp.where(inside, (scores - highest) * ends, 0.0), window, most)
        there = total[:, 0] > 0
        losses = jnp.log(jnp.where(there[:, None], total, 1.0)) - right
        return jnp.sum(jnp.where(there[:, None], losses, 0.0)) / 2, jnp.sum(there)

    totals, counts = jax.vmap(of_row)(logits, labels.astype(logits.dtype), weight.astype(jnp.int32))
    return jnp.sum(totals), jnp.sum(counts).astype(logits.dtype)
