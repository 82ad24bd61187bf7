"""The learning-rate range test (Smith 2017, section 3.3) in fastai's form: the rate grows until the loss does."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax

from tlx.errors import TlxError

SMOOTHING = 0.98  # of the loss, a step
DIVERGED = 4.0  # times the smallest smoothed loss ends the test


@dataclasses.dataclass(frozen=True)
class RangeTest:
    """What was seen. rates, losses, smoothed: float64 (steps,). The first tenth suggests nothing, as in fastai:
    there the smoothed loss is the mean of a few."""

    rates: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray

    @property
    def steepest(self) -> float:
        """The rate at which the smoothed loss falls fastest over the logarithm of the rate, up to its minimum."""
        first, lowest = len(self.rates) // 10, self._lowest
        rates, smoothed = self.rates[first : lowest + 1], self.smoothed[first : lowest + 1]
        return float(rates[(np.diff(smoothed) / np.diff(np.log(rates))).argmin()] if len(rates) > 1 else rates[0])

    @property
    def tenth(self) -> float:
        """A tenth of the rate at which the smoothed loss is smallest."""
        return float(self.rates[self._lowest]) / 10

    @property
    def _lowest(self) -> int:
        first = len(self.rates) // 10
        return first + int(self.smoothed[first:].argmin())


def sweep(lowest: float, highest: float, steps: int) -> optax.Schedule:
    """lowest · (highest / lowest)^(step / (steps − 1))."""
    if not 0 < lowest < highest or steps < 2:
        raise TlxError(
            f"a sweep goes from above 0 upwards in at least 2 steps; found {lowest} to {highest} in {steps}."
        )
    growth = math.log(highest / lowest) / (steps - 1)
    return lambda step: lowest * jnp.exp(growth * step)


class Watch:
    """A hook of the loop (`after_step`) that takes down the loss and ends the run after so many steps, or once the loss
    is not finite or beyond `DIVERGED` times the smallest.

    The smoothed loss is an exponential moving average, divided by what its weights sum to (Kingma & Ba 2015, 3).

    Args:
      rate: the learning rate by step.
      steps: at most.
    """

    def __init__(self, rate: optax.Schedule, steps: int):
        self.rate, self.steps = rate, steps
        self._mean, self._smallest = 0.0, math.inf
        self._rows: list[tuple[float, float, float]] = []

    def __call__(self, step: int, metrics: Mapping[str, Any]) -> bool:
        """Whether the run ends. step: how many have been taken. metrics: of the last, `loss` among them."""
        loss = float(metrics["loss"])
        if not math.isfinite(loss):
            return True
        self._mean = SMOOTHING * self._mean + (1 - SMOOTHING) * loss
        smoothed = self._mean / (1 - SMOOTHING**step)
        self._rows.append((float(self.rate(step - 1)), loss, smoothed))
        self._smallest = min(self._smallest, smoothed)
        return step >= self.steps or smoothed > DIVERGED * self._smallest

    def found(self) -> RangeTest:
        """What was seen.

        Raises:
          TlxError: the loss was finite for less than two steps.
        """
        if len(self._rows) < 2:
            raise TlxError("the loss is not finite within two steps of the lowest rate; look at the data or the model.")
        return RangeTest(*np.array(self._rows, np.float64).T)
