"""The gradient of an update, of a whole batch or accumulated over micro-batches.

The result does not depend on the number of micro-batches: totals and counts are summed over them before they are
divided. A mean of the micro-batches' means would give too much weight to examples of a micro-batch with few examples.
There are four cases:

- One micro-batch: the losses, total / count, are differentiated directly.
- Several micro-batches, and one loss or a `combine` function: the gradients of the totals are summed over micro-batches
  and divided by the summed counts at the end.
- Several micro-batches and several losses whose sum is minimized: a first pass computes the counts, and a second pass
  needs one backward pass for all losses. XLA removes from the first pass whatever the counts do not depend on, which is
  the whole network unless a count depends on its outputs. With `weigh` the first pass computes the losses too.

- `weigh_features`: losses are weighed by their gradients with respect to the features that heads read.

Under `jax.pmap` each device has its own rows of the batch. Counts are summed over devices before the division, and
totals and gradients after it, outside of differentiated functions. Each device therefore has the gradient of the whole
batch. (`tlx.parallel.axis.summed` is the identity without pmap.)
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from tlx.errors import TlxError
from tlx.methods.api import Batch, Carried, Context, Update
from tlx.parallel.axis import device_index, summed
from tlx.params.partition import merge
from tlx.params.paths import map_with_path

MicroBatch = tuple[Batch, jax.Array]  # rows and a random key; with a leading axis, all micro-batches
Values = dict[str, jax.Array]  # scalars by name of the loss
LEAST_COUNT = 1e-8  # smallest divisor, used if a count is 0


@dataclasses.dataclass(frozen=True)
class Result:
    """The gradient and the losses of an update.

    Attributes:
      gradient: gradient with respect to the trainable parameters.
      losses: total / count of each loss over the whole batch.
      counts: count of each loss over the whole batch.
      carried: the method's and the model's state after the update.
      measured: what `update.measure` returned, or total / count of what is only logged (`Update.only_logged`).
    """

    gradient: Any
    losses: Values
    counts: Values
    carried: Carried
    measured: Values = dataclasses.field(default_factory=dict)

    @property
    def loss(self) -> jax.Array:
        """The sum of the losses."""
        return sum(self.losses.values(), jnp.zeros(()))


jax.tree_util.register_dataclass(Result, ["gradient", "losses", "counts", "carried", "measured"], [])


def to_microbatches(batch: Batch, parts: int) -> Batch:
    """Splits a batch into micro-batches, `(parts, rows, …)`.

    Each micro-batch has every `parts`-th row, so that no row moves to another device.
    """
    return jax.tree.map(lambda x: jnp.moveaxis(x.reshape(-1, parts, *x.shape[1:]), 1, 0), batch)


def differentiate(
    update: Update, trainable: Any, fixed: Any, batches: Batch, carried: Carried, context: Context
) -> Result:
    """Computes the losses of an update and their gradient.

    Args:
      update: the update.
      trainable: the parameters to differentiate; None where a parameter is fixed.
      fixed: the other parameters; None where a parameter is trainable.
      batches: the micro-batches, `(parts, rows, …)`.
      carried: the method's and the model's state before the update.
      context: the context of the forward pass; each micro-batch has a random key derived from its key.

    Returns:
      The losses and the gradient of their sum, weighted by `update.weigh`, or the gradient that `update.combine`
      returns.
    """

    def losses(
        trainable: Any, carried: Carried, microbatch: MicroBatch, tap: Tap | None = None
    ) -> tuple[tuple[Values, Values], Carried]:
        batch, key = microbatch
        before, here = carried, dataclasses.replace(context, key=key, tap=tap)
        by_name, carried = update.losses(merge(trainable, fixed), batch, carried, here)
        _check_by_device(before, carried)
        totals = {name: total for name, (total, _) in by_name.items()}
        counts = {
            name: jnp.asarray(count, totals[name].dtype)
            if name in update.differentiable_counts
            else jax.lax.stop_gradient(jnp.asarray(count, totals[name].dtype))
            for name, (_, count) in by_name.items()
        }
        return (totals, counts), carried

    result = _differentiated(update, losses, trainable, batches, carried, context)
    if not update.only_logged:
        return result
    loss, measured = _apart(update, result.losses)
    return dataclasses.replace(result, losses=loss, measured=measured)


def _apart(update: Update, values: Values) -> tuple[Values, Values]:
    """The values that are minimized, and those that are only logged."""
    return (
        {name: value for name, value in values.items() if name not in update.only_logged},
        {name: value for name, value in values.items() if name in update.only_logged},
    )


def _differentiated(
    update: Update, losses: "LossFunction", trainable: Any, batches: Batch, carried: Carried, context: Context
) -> Result:
    """The result with what is only logged among its losses, from which it has to be parted."""
    parts = jax.tree.leaves(batches)[0].shape[0]
    if update.weigh_features is not None:
        if parts > 1:
            raise TlxError(
                f"config.train.accumulate is {parts}, and this method weighs the tasks by the features of a whole "
                "batch; set config.train.accumulate=1."
            )
        whole = jax.tree.map(lambda x: x[0], batches), context.key
        return _by_features(update, losses, trainable, carried, whole)
    if parts == 1:
        return _single(update, losses, trainable, carried, (jax.tree.map(lambda x: x[0], batches), context.key))
    keys = jax.vmap(lambda part: jax.random.fold_in(context.key, part))(jnp.arange(parts))
    shapes = jax.eval_shape(losses, trainable, carried, jax.tree.map(lambda x: x[0], (batches, keys)))[0]
    names = tuple(shapes[0])
    weighed = update.weigh is not None
    if update.combine is not None or (len(names) == 1 and not weighed) or update.differentiable_counts:
        return _accumulate_by_loss(update, losses, names, trainable, carried, (batches, keys))
    return _accumulate_sum(update, losses, names, trainable, carried, (batches, keys))


Tap = Callable[[Any], Any]
# (trainable, carried, micro-batch, perhaps a tap) -> ((totals, counts), carried)
LossFunction = Callable[..., tuple[tuple[Values, Values], Any]]


def _single(update: Update, losses: LossFunction, trainable: Any, carried: Carried, microbatch: MicroBatch) -> Result:
    """One micro-batch: the means, total / count, are differentiated."""

    def means(trainable: Any) -> tuple[Values, tuple[Values, Any]]:
        (totals, counts), after = losses(trainable, carried, microbatch)
        totals, counts = _over_devices(update, totals, counts)
        return _means(totals, counts), (counts, after)

    if update.combine is None and update.weigh is None:

        def total_loss(trainable: Any) -> tuple[jax.Array, tuple[Values, Values, Any]]:
            values, (counts, after) = means(trainable)
            return sum(_apart(update, values)[0].values(), jnp.zeros(())), (values, counts, after)

        (_, (values, counts, after)), gradient = jax.value_and_grad(total_loss, has_aux=True)(trainable)
        gradient, values = summed((gradient, values))
        return Result(gradient, values, counts, after)
    values, pull, (counts, after) = jax.vjp(means, trainable, has_aux=True)
    if update.weigh is not None:
        values = summed(values)
        weights, after = _weighed(update, values, counts, after)
        return Result(summed(pull(weights)[0]), values, counts, after)
    gradients, values = summed((_one_by_one(pull, values), values))
    return _combined(update, gradients, values, counts, after)


def _by_features(
    update: Update, losses: LossFunction, trainable: Any, carried: Carried, microbatch: MicroBatch
) -> Result:
    """One micro-batch: a backward pass through the heads for each loss, and one through the backbone.

    Each loss is differentiated by zeros that are added to the features. The compiler removes the passes through the
    backbone that come with it, since nothing uses their results.
    """
    assert update.weigh_features is not None
    shapes: list[Any] = []

    def noted(features: Any) -> Any:
        shapes.append(jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), features))
        return features

    jax.eval_shape(lambda trainable: losses(trainable, carried, microbatch, noted)[0], trainable)
    if not shapes:
        raise TlxError(
            "this method weighs the tasks by the features that a backbone computes, and here none runs; train a part "
            "of it (config.params), or set config.features.cache='off'."
        )
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

    def means(trainable: Any, added: list[Any]) -> tuple[Values, tuple[Values, Any]]:
        passes = iter(added)
        (totals, counts), after = losses(
            trainable, carried, microbatch, lambda features: jax.tree.map(jnp.add, features, next(passes))
        )
        totals, counts = _over_devices(update, totals, counts)
        return _means(totals, counts), (counts, after)

    values, pull, (counts, after) = jax.vjp(means, trainable, zeros, has_aux=True)
    none = jax.tree.map(jnp.zeros_like, values)
    pulled = {name: pull({**none, name: jnp.ones_like(value)}) for name, value in values.items()}
    inner = {one: {other: _inner(a, b) for other, (_, b) in pulled.items()} for one, (_, a) in pulled.items()}
    inner, values = summed((inner, values))
    weights, method_state = update.weigh_features(inner, values, counts, after.method)
    weights = {name: jax.lax.stop_gradient(jnp.asarray(weights[name], value.dtype)) for name, value in values.items()}
    shared, own = pull(weights)[0], jax.tree.map(lambda *leaves: sum(leaves), *(each for each, _ in pulled.values()))
    gradient = map_with_path(lambda path, a, b: b if path.startswith(update.own) else a, shared, own)
    return Result(summed(gradient), values, counts, dataclasses.replace(after, method=method_state))


def _inner(one: Any, other: Any) -> jax.Array:
    """The inner product of two trees of arrays, in float32 or their higher precision."""

    def product(a: jax.Array, b: jax.Array) -> jax.Array:
        dtype = jnp.promote_types(a.dtype, jnp.float32)
        return jnp.vdot(a.astype(dtype), b.astype(dtype), precision=jax.lax.Precision.HIGHEST)

    found: jax.Array = sum(jax.tree.leaves(jax.tree.map(product, one, other)), jnp.zeros(()))
    return found


def _accumulate_by_loss(
    update: Update, losses: LossFunction, names: tuple[str, ...], trainable: Any, carried: Carried,
    microbatches: MicroBatch,
) -> Result:  # fmt: skip
    """Sums, over micro-batches, the gradient of each total and of each count that is differentiated."""

    def add(carry: tuple[Any, Any, Any], microbatch: MicroBatch) -> tuple[tuple[Any, Any, Any], None]:
        gradients, sums, carried = carry
        values, pull, carried = jax.vjp(
            lambda trainable: losses(trainable, carried, microbatch), trainable, has_aux=True
        )
        zero = jax.tree.map(jnp.zeros_like, values)
        more = {}
        for name in names:
            more[name] = pull(({**zero[0], name: jnp.ones_like(values[0][name])}, zero[1]))[0]
            if name in update.differentiable_counts:
                more[f"{name} count"] = pull((zero[0], {**zero[1], name: jnp.ones_like(values[1][name])}))[0]
        return (jax.tree.map(jnp.add, gradients, more), jax.tree.map(jnp.add, sums, values), carried), None

    gradient_names = [*names, *(f"{name} count" for name in update.differentiable_counts)]
    shapes = jax.eval_shape(losses, trainable, carried, jax.tree.map(lambda x: x[0], microbatches))[0]
    sums = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    zeros = {name: jax.tree.map(jnp.zeros_like, trainable) for name in gradient_names}
    (gradients, sums, carried), _ = jax.lax.scan(add, (zeros, sums, carried), microbatches)
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
        return _combined(update, gradients, means, counts, carried)
    gradient = jax.tree.map(lambda *leaves: sum(leaves), *(gradients[name] for name in names))
    return Result(gradient, means, counts, carried)


def _accumulate_sum(
    update: Update, losses: LossFunction, names: tuple[str, ...], trainable: Any, carried: Carried,
    microbatches: MicroBatch,
) -> Result:  # fmt: skip
    """Computes the counts first, so that each micro-batch needs one backward pass for the sum of all losses."""

    def count(carried: Carried, microbatch: MicroBatch) -> tuple[Any, tuple[Values, Values]]:
        (totals, counts), carried = losses(trainable, carried, microbatch)
        return carried, (counts, {} if update.weigh is None else totals)

    counted, (counts_by_part, totals_by_part) = jax.lax.scan(count, carried, microbatches)
    counts = summed({name: counts_by_part[name].sum() for name in names})
    weights, weighed = None, counted
    if update.weigh is not None:
        totals = summed({name: totals_by_part[name].sum() for name in names})
        weights, weighed = _weighed(update, _means(totals, counts), counts, counted)

    def share_of_loss(trainable: Any, carried: Carried, microbatch: MicroBatch) -> tuple[jax.Array, tuple[Values, Any]]:
        (totals, _), carried = losses(trainable, carried, microbatch)
        values = _means(totals, counts)
        shares = _apart(update, values)[0]
        shares = shares if weights is None else {name: weights[name] * value for name, value in shares.items()}
        return sum(shares.values(), jnp.zeros(())), (values, carried)

    def add(carry: tuple[Any, Any], microbatch: MicroBatch) -> tuple[tuple[Any, Any], Values]:
        gradient, carried = carry
        (_, (values, carried)), more = jax.value_and_grad(share_of_loss, has_aux=True)(trainable, carried, microbatch)
        return (jax.tree.map(jnp.add, gradient, more), carried), values

    zeros = jax.tree.map(jnp.zeros_like, trainable)
    (gradient, carried), values = jax.lax.scan(add, (zeros, carried), microbatches)
    gradient, means = summed((gradient, {name: values[name].sum() for name in names}))
    if update.weigh is not None:
        carried = dataclasses.replace(carried, method=weighed.method)
    return Result(gradient, means, counts, carried)


def _over_devices(update: Update, totals: Values, counts: Values) -> tuple[Values, Values]:
    """Returns this device's totals and the counts of the whole batch; without pmap, returns the arguments.

    The totals are adjusted such that the sum over devices of the gradients of total / count is the gradient of the
    whole batch, also if a count is differentiated.
    """
    if device_index() is None:
        return totals, counts
    batch_counts = jax.lax.stop_gradient(summed(counts))
    for name in update.differentiable_counts:  # the quotient rule
        mean = _means(summed({name: jax.lax.stop_gradient(totals[name])}), batch_counts)[name]
        totals = {**totals, name: totals[name] - mean * (counts[name] - jax.lax.stop_gradient(counts[name]))}
    return totals, batch_counts


def _check_by_device(before: Carried, after: Carried) -> None:
    """Raises `TlxError` if losses, which see the rows of one device, change the method's state."""
    if device_index() is None:
        return
    old, new = jax.tree.leaves(before.method), jax.tree.leaves(after.method)
    if len(old) != len(new) or any(a is not b for a, b in zip(old, new, strict=True)):
        raise TlxError(
            "parallel.mode is 'pmap', in which each device has only its own rows of a batch, and the losses of this "
            "method change its method_state; use parallel.mode=jit."
        )


def _combined(update: Update, gradients: dict[str, Any], means: Values, counts: Values, carried: Carried) -> Result:
    assert update.combine is not None
    gradient, method_state = update.combine(gradients, means, counts, carried.method)
    measured = {} if update.measure is None else update.measure(gradients, counts)
    return Result(gradient, means, counts, dataclasses.replace(carried, method=method_state), measured)


def _weighed(update: Update, means: Values, counts: Values, carried: Carried) -> tuple[Values, Carried]:
    """The weights of the losses, in the losses' dtypes, and the method's state after them."""
    assert update.weigh is not None
    weights, method_state = update.weigh(means, counts, carried.method)
    weights = {name: jax.lax.stop_gradient(jnp.asarray(weights[name], mean.dtype)) for name, mean in means.items()}
    return weights, dataclasses.replace(carried, method=method_state)


def _means(totals: Values, counts: Values) -> Values:
    return {name: total / jnp.maximum(counts[name], LEAST_COUNT) for name, total in totals.items()}


def _one_by_one(pull: Callable[[Values], tuple[Any]], values: Values) -> dict[str, Any]:
    """The gradient of each value, with one backward pass for each value after the same forward pass."""
    zero = jax.tree.map(jnp.zeros_like, values)
    return {name: pull({**zero, name: jnp.ones_like(values[name])})[0] for name in values}
