"""The mean relative gain of a model of several tasks over models of one task each, Δm.

Maninis et al. 2019, "Attentive single-tasking of multiple tasks"; Vandenhende et al. 2021, "Multi-task learning for
dense prediction tasks: a survey".
"""

import math
from collections.abc import Mapping

DELTA = "delta_m"  # the name of Δm among metrics, after the split


def relative_gain(values: Mapping[str, float], baselines: Mapping[str, float], higher: Mapping[str, bool]) -> float:
    """Returns Δm = 1/T Σ (−1)^l (M − M_b) / M_b over the T tasks; l is 1 where a lower metric is better, else 0.

    Args:
      values: the metric M of each task.
      baselines: the metric M_b of each task's own model.
      higher: for each task, whether a higher metric is better.

    Returns:
      Δm as a fraction: 0.01 is a mean gain of one percent. NaN if a baseline is not above 0, for which a relative gain
      means nothing.

    Raises:
      ValueError: if there is no task, or the three are not of the same tasks.
    """
    if not values or not values.keys() == baselines.keys() == higher.keys():
        raise ValueError(
            f"values of {sorted(values)}, baselines of {sorted(baselines)}, directions of {sorted(higher)}"
        )
    if any(not baseline > 0 for baseline in baselines.values()):
        return math.nan
    gains = [(1 if higher[task] else -1) * (values[task] - baselines[task]) / baselines[task] for task in values]
    return sum(gains) / len(gains)
