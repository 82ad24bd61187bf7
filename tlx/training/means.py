"""Means of the training metrics since the last log. They are saved with the state, so that no step is left out."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tlx.training.step import Metrics


class Means:
    """Adds up metrics of steps; a mean is over the steps that have the metric, with another value than NaN.

    Steps of which an update was skipped (`tlx.training.step`) are left out, and counted in `train/skipped` if there are
    any.

    Args:
      record: what `record` returned before the run was stopped.
    """

    def __init__(self, record: Any = ()):
        self._pending: list[Metrics] = []  # on the device, so that no step waits for its metrics
        self._sums: dict[str, tuple[Any, int]] = {
            name: (jnp.dtype(dtype).type(value), count) for name, dtype, value, count in record
        }

    def add(self, metrics: Metrics) -> None:
        """Adds the metrics of a step."""
        self._pending.append(metrics)

    def take(self) -> dict[str, float]:
        """Returns the means, named `train/…`, and begins anew."""
        self._add_up()
        sums, self._sums = self._sums, {}
        return {f"train/{name}": float(value / count) for name, (value, count) in sums.items()}

    def record(self) -> list[tuple[str, str, float, int]]:
        """Returns `(name, dtype, sum, count)` of each metric as JSON values, which are exact: means keep their bits."""
        self._add_up()
        return [(name, str(value.dtype), value.item(), count) for name, (value, count) in self._sums.items()]

    def _add_up(self) -> None:
        for metrics in jax.device_get(self._pending):
            if metrics.pop("skipped", 0):
                self._sums["skipped"] = (self._sums.get("skipped", (np.int32(0), 1))[0] + np.int32(1), 1)
                continue
            for name, value in metrics.items():
                if np.isnan(value):  # of a step that is not skipped: not measured, such as the angle to an absent task
                    continue
                total, count = self._sums.get(name, (0, 0))
                self._sums[name] = (total + value, count + 1)
        self._pending = []
