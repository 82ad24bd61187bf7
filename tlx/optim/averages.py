"""Averages of the parameters over a run. One is a function: after so many steps, how much of it the newest make up."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from tlx.errors import TlxError
from tlx.optim.schedules import widest

AverageWeight = Callable[[jax.Array], jax.Array]


def ema(decay: float, warmup: bool = True) -> AverageWeight:
    """The exponential moving average, from the first parameters on: average ← d · average + (1 − d) · parameters.

    Args:
      decay: d, of a step.
      warmup: d = min(decay, (1 + t) / (10 + t)) after step t, as TensorFlow's ExponentialMovingAverage has it
        (`num_updates`), so that a short run's average forgets where it began. Without it, d = decay from the start; it
        is not divided by 1 − dᵗ as Adam's moments are, for it begins with the parameters and not with zero.
    """
    if not 0 <= decay < 1:
        raise TlxError(f"an average's decay is {decay}; it is at least 0 and below 1.")
    return lambda step: jnp.maximum(1 - decay, 9 / (10 + widest(step))) if warmup else jnp.asarray(1 - decay)


def swa(start: int, every: int) -> AverageWeight:
    """Stochastic weight averaging (Izmailov et al. 2018, algorithm 1): the mean of the parameters after the steps
    start, start + every, …; until then it is the parameters themselves."""
    if start < 1 or every < 1:
        raise TlxError(f"SWA begins at step {start} and takes every {every}; both are at least 1.")

    def share(step: jax.Array) -> jax.Array:
        since = jnp.maximum(widest(step) - start, 0)
        return jnp.where(since % every == 0, 1 / (1 + since // every), 0.0)

    return share


def update_average(average: Any, params: Any, share: jax.Array) -> Any:
    """One step of an average: (1 − share) · average + share · params, in the average's dtypes. A leaf that is None in
    both stays None."""
    moved = optax.incremental_update(params, average, share)
    return jax.tree.map(lambda new, old: new.astype(old.dtype), moved, average)
