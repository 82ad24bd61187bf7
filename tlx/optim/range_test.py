"""The learning-rate range test (Smith 2017, section 3.3) as in fastai: raise the rate until the loss diverges."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax

from tlx.errors import TlxError

SMOOTHING = 0.98  # the decay of the moving average of the loss, per step
DIVERGED = 4.0  # the test ends when the smoothed loss exceeds its minimum by this factor


@dataclasses.dataclass(frozen=True)
class RangeTest:
    """The results of a range test.

    As in fastai, the first tenth of the steps is not used for suggestions, because the smoothed loss there is an
    average of few values.

    Attributes:
      rates: the learning rate of each step, float64 (steps,).
      losses: the loss of each step, float64 (steps,).
      smoothed: the moving average of the loss, float64 (steps,).
    """

    rates: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray

    @property
    def steepest(self) -> float:
        """The learning rate with the steepest descent of the smoothed loss over log(rate), up to its minimum."""
        first, lowest = len(self.rates) // 10, self._lowest
        rates, smoothed = self.rates[first : lowest + 1], self.smoothed[first : lowest + 1]
        return float(rates[(np.diff(smoothed) / np.diff(np.log(rates))).argmin()] if len(rates) > 1 else rates[0])

    @property
    def tenth(self) -> float:
        """A tenth of the learning rate with the smallest smoothed loss."""
        return float(self.rates[self._lowest]) / 10

    @property
    def _lowest(self) -> int:
        first = len(self.rates) // 10
        return first + int(self.smoothed[first:].argmin())


def sweep(lowest: float, highest: float, steps: int) -> optax.Schedule:
    """Returns the exponential schedule lowest · (highest / lowest)^(step / (steps − 1)).

    Raises:
      TlxError: if the rates are not above 0 and increasing, or there are fewer than 2 steps.
    """
    if not 0 < lowest < highest or steps < 2:
        raise TlxError(
            "a range test needs learning rates with 0 < lowest < highest and at least 2 steps; found "
            f"{lowest} to {highest} in {steps} steps."
        )
    growth = math.log(highest / lowest) / (steps - 1)
    return lambda step: lowest * jnp.exp(growth * step)


class Watch:
    """A hook of the training loop (`after_step`) that records the loss of each step and ends the run.

    The run ends after a number of steps, or when the loss or the gradient is not finite or the smoothed loss exceeds
    `DIVERGED` times its minimum. The smoothed loss is an exponential moving average with bias correction (Kingma & Ba
    2015, 3).

    Args:
      rate: the learning rate by step.
      steps: the largest number of steps.
    """

    def __init__(self, rate: optax.Schedule, steps: int):
        self.rate, self.steps = rate, steps
        self._mean, self._smallest = 0.0, math.inf
        self._rows: list[tuple[float, float, float]] = []

    def __call__(self, step: int, metrics: Mapping[str, Any]) -> bool:
        """Records a step and returns whether the run ends.

        Args:
          step: the number of steps taken.
          metrics: the metrics of the last step, which include `loss`.
        """
        loss = float(metrics["loss"])
        if not math.isfinite(loss) or int(metrics.get("skipped", 0)):
            return True
        self._mean = SMOOTHING * self._mean + (1 - SMOOTHING) * loss
        smoothed = self._mean / (1 - SMOOTHING**step)
        self._rows.append((float(self.rate(step - 1)), loss, smoothed))
        self._smallest = min(self._smallest, smoothed)
        return step >= self.steps or smoothed > DIVERGED * self._smallest

    def found(self) -> RangeTest:
        """Returns the results.

        Raises:
          TlxError: if fewer than two steps had a finite loss.
        """
        if len(self._rows) < 2:
            raise TlxError(
                "the loss is not finite in the first two steps, at the lowest learning rate; check the data and the "
                "model."
            )
        return RangeTest(*np.array(self._rows, np.float64).T)
