"""Averages of the parameters over a run. An average is defined by the weight of the newest parameters at each step."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from tlx.errors import TlxError
from tlx.optim.schedules import widest

AverageWeight = Callable[[jax.Array], jax.Array]


def ema(decay: float, warmup: bool = True) -> AverageWeight:
    """The exponential moving average: average ← d · average + (1 − d) · parameters, starting at the initial parameters.

    There is no bias correction as for Adam's moments, because the average does not start at zero.

    Args:
      decay: d, per step.
      warmup: whether to use d = min(decay, (1 + t) / (10 + t)) after step t, as TensorFlow's ExponentialMovingAverage
        does (`num_updates`). The initial parameters then have little weight even in a short run.

    Returns:
      The weight 1 − d as a function of the step.

    Raises:
      TlxError: if the decay is not in [0, 1).
    """
    if not 0 <= decay < 1:
        raise TlxError(f"an average's decay is {decay}; it must be at least 0 and below 1.")
    return lambda step: jnp.maximum(1 - decay, 9 / (10 + widest(step))) if warmup else jnp.asarray(1 - decay)


def swa(start: int, every: int) -> AverageWeight:
    """Stochastic weight averaging (Izmailov et al. 2018, algorithm 1).

    Args:
      start: the first step whose parameters enter the mean. Before it, the average equals the parameters.
      every: the number of steps from one set of parameters in the mean to the next.

    Returns:
      The weight of the newest parameters as a function of the step.

    Raises:
      TlxError: if one of the numbers is below 1.
    """
    if start < 1 or every < 1:
        raise TlxError(f"SWA has start={start} and every={every}; both must be at least 1.")

    def weight(step: jax.Array) -> jax.Array:
        since = jnp.maximum(widest(step) - start, 0)
        return jnp.where(since % every == 0, 1 / (1 + since // every), 0.0)

    return weight


def update_average(average: Any, params: Any, weight: jax.Array) -> Any:
    """Updates an average: (1 − weight) · average + weight · params.

    Args:
      average: the average.
      params: the newest parameters, of the same structure; a leaf may be None in both trees.
      weight: the weight of `params`, ().

    Returns:
      The new average, in the dtypes of the old one.
    """
    moved = optax.incremental_update(params, average, weight)
    return jax.tree.map(lambda new, old: new.astype(old.dtype), moved, average)
