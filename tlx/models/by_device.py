"""linen's batch normalization and dropout, as of the whole batch, in a step in which a device has only its own rows."""

from collections.abc import Callable, Collection
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from tlx.parallel.axis import own_rows, summed


class LayersByDevice:
    """An interceptor that makes `flax.linen.BatchNorm` and `Dropout` compute what they compute of the whole batch.

    A norm uses the mean and variance of the rows on all devices. linen's `axis_name` gives the mean of the devices'
    means. Devices have unequal numbers of valid rows in the last batch of an epoch, and that mean then differs from the
    mean of the batch; here sums and counts are added up. A dropout mask is this device's part of the batch's mask.

    Args:
      frozen: path prefixes of frozen parts, whose norms use their running statistics.

    Attributes:
      updated: paths in the model state of the statistics that were updated.
    """

    def __init__(self, frozen: Collection[str] = ()):
        self.frozen = tuple(f"{prefix}/" for prefix in frozen)
        self.updated: set[str] = set()

    def __call__(self, run: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        layer = context.module
        if context.method_name != "__call__" or not isinstance(layer, nn.BatchNorm | nn.Dropout):
            return run(*args, **kwargs)
        name = "use_running_average" if isinstance(layer, nn.BatchNorm) else "deterministic"
        flag = args[1] if len(args) > 1 else kwargs.get(name)
        if getattr(layer, name) if flag is None else flag:
            return run(*args, **kwargs)
        if isinstance(layer, nn.Dropout):
            x, *rest = args or (kwargs.pop("inputs"),)
            whole = jnp.ones((summed(len(x)), *x.shape[1:]), x.dtype)
            return x * own_rows(run(whole, *rest, **kwargs), len(x))
        if f"{'/'.join(layer.path)}/".startswith(self.frozen or "\0"):
            return run(*args, **kwargs)
        return self._normalized(layer, args[0] if args else kwargs["x"], kwargs.get("mask"))

    def _normalized(self, norm: nn.BatchNorm, x: jax.Array, mask: jax.Array | None) -> jax.Array:
        before: dict[str, Any] = {name: norm.get_variable("batch_stats", name) for name in ("mean", "var")}
        batch = dict(zip(before, statistics(norm, x, mask), strict=True))
        for name, value in batch.items():  # with these as running statistics, linen normalizes as with the batch's
            norm.put_variable("batch_stats", name, value)
        output: jax.Array = norm.clone(parent=norm.scope, use_running_average=True)(x)
        for name, value in batch.items():
            mean = norm.momentum * before[name] + (1 - norm.momentum) * value
            norm.put_variable("batch_stats", name, mean)
            self.updated.add("/".join(("batch_stats", *norm.path, name)))
        return output


def statistics(norm: nn.BatchNorm, x: jax.Array, mask: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    """Returns the mean and the variance of a batch over all devices, in the dtype in which `norm` computes them.

    Args:
      norm: the norm, whose feature axes, dtype and kind of variance are used.
      x: this device's rows.
      mask: boolean, broadcastable to `x`, True for the entries that count; None: all of them.
    """
    dtype = norm.dtype or x.dtype
    x = x.astype(jnp.promote_types(dtype, jnp.float32) if norm.force_float32_reductions else dtype)
    features = {axis % x.ndim for axis in (norm.axis if isinstance(norm.axis, tuple) else (norm.axis,))}
    axes = tuple(axis for axis in range(x.ndim) if axis not in features)
    counted = jnp.broadcast_to(True if mask is None else jnp.asarray(mask, bool), x.shape)
    count = jnp.maximum(summed(counted.sum(axes, dtype=x.dtype)), 1)

    def mean(values: jax.Array) -> jax.Array:
        return summed(values.sum(axes, where=counted)) / count

    if norm.use_fast_variance:
        first, second = mean(x), mean(x * x)
        return first, jnp.maximum(second - first * first, 0)
    first = mean(x)
    return first, mean((x - jnp.expand_dims(first, axes)) ** 2)
