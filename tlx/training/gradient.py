"""The gradient of an update, in one piece or accumulated over micro-batches that are weighed by what they hold."""

from typing import Any

import jax
import jax.numpy as jnp

from tlx.methods.api import Batch, Losses, Update
from tlx.params.partition import merge

Given = tuple[Batch, jax.Array]  # a micro-batch and its key
Counts = dict[str, jax.Array]


def cut(batch: Batch, parts: int) -> Batch:
    """Micro-batches, `(parts, rows, …)`. Each takes every `parts`-th row, so that a device keeps the rows it has."""
    return jax.tree.map(lambda x: jnp.moveaxis(x.reshape(-1, parts, *x.shape[1:]), 1, 0), batch)


def differentiate(
    update: Update, trainable: Any, fixed: Any, batches: Batch, method_state: Any, key: jax.Array
) -> tuple[tuple[jax.Array, dict[str, jax.Array], Any], Any]:
    """The sum over losses of total / count, both over all micro-batches, and its gradient.

    A micro-batch with few examples so weighs as little as it would in one large batch: means of means would give its
    examples too much. Counts do not depend on what is trained; they are taken first, by a pass of which XLA keeps the
    counting alone.

    Returns:
      ((loss, losses by name, method_state), gradient).
    """

    def losses(trainable: Any, method_state: Any, given: Given) -> tuple[Losses, Any]:
        return update.losses(merge(trainable, fixed), given[0], method_state, given[1])

    def share(trainable: Any, method_state: Any, given: Given, counts: Counts | None = None) -> tuple[jax.Array, Any]:
        found, method_state = losses(trainable, method_state, given)
        whole = counts or {name: count for name, (_, count) in found.items()}
        shares = {name: total / jnp.maximum(whole[name], 1e-8) for name, (total, _) in found.items()}
        return sum(shares.values(), jnp.zeros(())), (shares, method_state)

    def counted(method_state: Any, given: Given) -> tuple[Any, Counts]:
        found, method_state = losses(trainable, method_state, given)
        return method_state, {name: count for name, (_, count) in found.items()}

    differentiated = jax.value_and_grad(share, has_aux=True)
    parts = jax.tree.leaves(batches)[0].shape[0]
    if parts == 1:
        only = jax.tree.map(lambda x: x[0], batches)
        (loss, (shares, method_state)), gradient = differentiated(trainable, method_state, (only, key))
        return (loss, shares, method_state), gradient

    keys = jax.vmap(lambda part: jax.random.fold_in(key, part))(jnp.arange(parts))
    _, every = jax.lax.scan(counted, method_state, (batches, keys))
    counts = {name: count.sum() for name, count in every.items()}

    def add(carry: tuple[Any, Any], given: Given) -> tuple[tuple[Any, Any], Any]:
        gradient, method_state = carry
        (loss, (shares, method_state)), more = differentiated(trainable, method_state, given, counts)
        return (jax.tree.map(jnp.add, gradient, more), method_state), (loss, shares)

    nothing = jax.tree.map(jnp.zeros_like, trainable)
    (gradient, method_state), (loss, shares) = jax.lax.scan(add, (nothing, method_state), (batches, keys))
    return (loss.sum(), {name: share.sum() for name, share in shares.items()}, method_state), gradient
