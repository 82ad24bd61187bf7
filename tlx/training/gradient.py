"""The gradient of an update, in one piece or accumulated over micro-batches that are weighted by their counts.

Micro-batches are weighted so that the result is that of one large batch: the mean of their means would give the
examples of a micro-batch with few of them too much weight. How the counts enter depends on the update:

- One micro-batch: the loss is differentiated as it is.
- Several, one loss or a `combine`: the gradients of totals are summed and divided by the summed count at the end.
- Several losses that are summed: counts are taken first, by a pass of which XLA keeps what the counts need (nothing of
  the network, unless a count depends on its outputs), so that one backward pass serves all losses.

Under `jax.pmap` a device has its own rows alone. Counts are summed over the devices before anything is divided by them,
totals and gradients after it (`tlx.parallel.axis.summed`, which elsewhere changes nothing), never within what is
differentiated: so each device ends with the gradient of the whole batch.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from tlx.methods.api import Batch, Carried, Context, Update
from tlx.parallel.axis import device_index, summed
from tlx.params.partition import merge

Given = tuple[Batch, jax.Array]  # a micro-batch and its key
Values = dict[str, jax.Array]  # by loss
LEAST_COUNT = 1e-8  # what a count of 0 is divided by


@dataclasses.dataclass(frozen=True)
class Result:
    """What differentiating an update gives.

    Attributes:
      gradient: with respect to the trainable leaves.
      losses, counts: by name; losses are means, counts are sums over the whole batch.
      carried: after the update.
    """

    gradient: Any
    losses: Values
    counts: Values
    carried: Carried

    @property
    def loss(self) -> jax.Array:
        """The sum of the losses."""
        return sum(self.losses.values(), jnp.zeros(()))


jax.tree_util.register_dataclass(Result, ["gradient", "losses", "counts", "carried"], [])


def to_microbatches(batch: Batch, parts: int) -> Batch:
    """Micro-batches, `(parts, rows, …)`. Each takes every `parts`-th row, so that a device keeps the rows it has."""
    return jax.tree.map(lambda x: jnp.moveaxis(x.reshape(-1, parts, *x.shape[1:]), 1, 0), batch)


def differentiate(
    update: Update, trainable: Any, fixed: Any, batches: Batch, carried: Carried, context: Context
) -> Result:
    """The losses of an update over all micro-batches, and the gradient of their sum or what `combine` makes of them."""

    def losses(trainable: Any, carried: Carried, given: Given) -> tuple[tuple[Values, Values], Carried]:
        batch, key = given
        here = dataclasses.replace(context, key=key)
        named, carried = update.losses(merge(trainable, fixed), batch, carried, here)
        totals = {name: total for name, (total, _) in named.items()}
        counts = {
            name: jnp.asarray(count, totals[name].dtype)
            if name in update.differentiable_counts
            else jax.lax.stop_gradient(jnp.asarray(count, totals[name].dtype))
            for name, (_, count) in named.items()
        }
        return (totals, counts), carried

    parts = jax.tree.leaves(batches)[0].shape[0]
    if parts == 1:
        given = (jax.tree.map(lambda x: x[0], batches), context.key)
        return _in_one_piece(update, losses, trainable, carried, given)
    keys = jax.vmap(lambda part: jax.random.fold_in(context.key, part))(jnp.arange(parts))
    shapes = jax.eval_shape(losses, trainable, carried, jax.tree.map(lambda x: x[0], (batches, keys)))[0]
    names = tuple(shapes[0])
    if update.combine is not None or len(names) == 1 or update.differentiable_counts:
        return _by_loss(update, losses, names, trainable, carried, (batches, keys))
    return _counted_first(losses, names, trainable, carried, (batches, keys))


Evaluated = Callable[[Any, Any, Given], tuple[tuple[Values, Values], Any]]


def _in_one_piece(update: Update, losses: Evaluated, trainable: Any, carried: Carried, given: Given) -> Result:
    """One micro-batch: the means themselves are differentiated."""

    def means(trainable: Any) -> tuple[Values, tuple[Values, Any]]:
        (totals, counts), after = losses(trainable, carried, given)
        totals, counts = _over_devices(update, totals, counts)
        return _means(totals, counts), (counts, after)

    if update.combine is None:

        def of_all(trainable: Any) -> tuple[jax.Array, tuple[Values, Values, Any]]:
            values, (counts, after) = means(trainable)
            return sum(values.values(), jnp.zeros(())), (values, counts, after)

        (_, (values, counts, after)), gradient = jax.value_and_grad(of_all, has_aux=True)(trainable)
        gradient, values = summed((gradient, values))
        return Result(gradient, values, counts, after)
    values, pull, (counts, after) = jax.vjp(means, trainable, has_aux=True)
    gradients, values = summed((_one_by_one(pull, values), values))
    gradient, after = _combined(update, gradients, values, after)
    return Result(gradient, values, counts, after)


def _by_loss(
    update: Update, losses: Evaluated, names: tuple[str, ...], trainable: Any, carried: Carried, every: Given
) -> Result:
    """Gradients of totals (and of counts that are differentiated) by loss, summed over micro-batches."""

    def add(carry: tuple[Any, Any, Any], given: Given) -> tuple[tuple[Any, Any, Any], None]:
        gradients, sums, carried = carry
        values, pull, carried = jax.vjp(lambda trainable: losses(trainable, carried, given), trainable, has_aux=True)
        zero = jax.tree.map(jnp.zeros_like, values)
        more = {}
        for name in names:
            more[name] = pull(({**zero[0], name: jnp.ones_like(values[0][name])}, zero[1]))[0]
            if name in update.differentiable_counts:
                more[f"{name} count"] = pull((zero[0], {**zero[1], name: jnp.ones_like(values[1][name])}))[0]
        return (jax.tree.map(jnp.add, gradients, more), jax.tree.map(jnp.add, sums, values), carried), None

    kept = [*names, *(f"{name} count" for name in update.differentiable_counts)]
    first = jax.eval_shape(losses, trainable, carried, jax.tree.map(lambda x: x[0], every))[0]
    sums = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), first)
    nothing = {name: jax.tree.map(jnp.zeros_like, trainable) for name in kept}
    (gradients, sums, carried), _ = jax.lax.scan(add, (nothing, sums, carried), every)
    gradients, (totals, counts) = summed((gradients, sums))
    means = _means(totals, counts)
    for name in names:
        count = jnp.maximum(counts[name], LEAST_COUNT)
        gradients[name] = jax.tree.map(lambda g, c=count: g / c.astype(g.dtype), gradients[name])
        if name in update.differentiable_counts:  # the quotient rule
            share = means[name] / count
            gradients[name] = jax.tree.map(
                lambda g, c, s=share: g - s.astype(g.dtype) * c, gradients[name], gradients.pop(f"{name} count")
            )
    if update.combine is not None:
        gradient, carried = _combined(update, gradients, means, carried)
    else:
        gradient = jax.tree.map(lambda *leaves: sum(leaves), *(gradients[name] for name in names))
    return Result(gradient, means, counts, carried)


def _counted_first(losses: Evaluated, names: tuple[str, ...], trainable: Any, carried: Carried, every: Given) -> Result:
    """Several losses summed: with the counts known, each micro-batch has one backward pass."""

    def counted(carried: Carried, given: Given) -> tuple[Any, Values]:
        (_, counts), carried = losses(trainable, carried, given)
        return carried, counts

    _, by_part = jax.lax.scan(counted, carried, every)
    counts = summed({name: by_part[name].sum() for name in names})

    def shares(trainable: Any, carried: Carried, given: Given) -> tuple[jax.Array, tuple[Values, Any]]:
        (totals, _), carried = losses(trainable, carried, given)
        values = _means(totals, counts)
        return sum(values.values(), jnp.zeros(())), (values, carried)

    def add(carry: tuple[Any, Any], given: Given) -> tuple[tuple[Any, Any], Values]:
        gradient, carried = carry
        (_, (values, carried)), more = jax.value_and_grad(shares, has_aux=True)(trainable, carried, given)
        return (jax.tree.map(jnp.add, gradient, more), carried), values

    nothing = jax.tree.map(jnp.zeros_like, trainable)
    (gradient, carried), values = jax.lax.scan(add, (nothing, carried), every)
    gradient, means = summed((gradient, {name: values[name].sum() for name in names}))
    return Result(gradient, means, counts, carried)


def _over_devices(update: Update, totals: Values, counts: Values) -> tuple[Values, Values]:
    """This device's totals and the counts of the whole batch, such that the gradients of total / count by device add up
    to that of the whole, also where a count is differentiated."""
    if device_index() is None:
        return totals, counts
    every = jax.lax.stop_gradient(summed(counts))
    for name in update.differentiable_counts:  # the quotient rule
        mean = _means(summed({name: jax.lax.stop_gradient(totals[name])}), every)[name]
        totals = {**totals, name: totals[name] - mean * (counts[name] - jax.lax.stop_gradient(counts[name]))}
    return totals, every


def _combined(update: Update, gradients: dict[str, Any], means: Values, carried: Carried) -> tuple[Any, Carried]:
    assert update.combine is not None
    gradient, method_state = update.combine(gradients, means, carried.method)
    return gradient, dataclasses.replace(carried, method=method_state)


def _means(totals: Values, counts: Values) -> Values:
    return {name: total / jnp.maximum(counts[name], LEAST_COUNT) for name, total in totals.items()}


def _one_by_one(pull: Callable[[Values], tuple[Any]], values: Values) -> dict[str, Any]:
    """The gradient of each value: one backward pass a value, all from the same forward pass."""
    zero = jax.tree.map(jnp.zeros_like, values)
    return {name: pull({**zero, name: jnp.ones_like(values[name])})[0] for name in values}
