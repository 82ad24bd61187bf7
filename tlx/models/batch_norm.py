"""Batch normalization with the statistics of the whole batch, in a step in which a device has only its own rows."""

from collections.abc import Callable, Collection
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from tlx.parallel.axis import summed


class NormsOverDevices:
    """An interceptor that makes each linen `BatchNorm` use the mean and variance of the rows on all devices.

    linen's `axis_name` gives the mean of the devices' means. Devices have unequal numbers of valid rows in the last
    batch of an epoch, and that mean then differs from the mean of the batch; here sums and counts are added up.

    Args:
      frozen: path prefixes of frozen parts, whose norms use their running statistics.

    Attributes:
      updated: paths in the model state of the statistics that were updated.
    """

    def __init__(self, frozen: Collection[str] = ()):
        self.frozen = tuple(f"{prefix}/" for prefix in frozen)
        self.updated: set[str] = set()

    def __call__(self, run: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        norm = context.module
        if not (isinstance(norm, nn.BatchNorm) and context.method_name == "__call__"):
            return run(*args, **kwargs)
        x, running, *_ = (*args, kwargs.get("use_running_average"), None) if args else (kwargs["x"], None)
        running = norm.use_running_average if running is None else running
        if running or f"{'/'.join(norm.path)}/".startswith(self.frozen or "\0"):
            return run(*args, **kwargs)
        before: dict[str, Any] = {name: norm.get_variable("batch_stats", name) for name in ("mean", "var")}
        batch = dict(zip(before, statistics(norm, x, kwargs.get("mask")), strict=True))
        for name, value in batch.items():  # with these as running statistics, linen normalizes as with the batch's
            norm.put_variable("batch_stats", name, value)
        output = norm.clone(parent=norm.scope, use_running_average=True)(x)
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
