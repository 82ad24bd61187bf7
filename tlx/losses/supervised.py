"""Losses against given answers. Each returns a weighted sum and the sum of weights; the mean is their ratio."""

import jax
import jax.numpy as jnp
import optax


def cross_entropy(logits: jax.Array, labels: jax.Array, weight: jax.Array) -> tuple[jax.Array, jax.Array]:
    """-log softmax(logits)[label]. logits: (batch, classes); labels: integers (batch,); weight: (batch,)."""
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return jnp.sum(losses * weight), jnp.sum(weight)


def squared_error(predictions: jax.Array, targets: jax.Array, weight: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Squared error, averaged over outputs. predictions, targets: (batch, outputs); weight: (batch,)."""
    losses = jnp.mean(jnp.square(predictions - targets), axis=-1)
    return jnp.sum(losses * weight), jnp.sum(weight)
