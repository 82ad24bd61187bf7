"""Learning curves of arms: a validation metric by step, as mean and interval over seeds."""

import math
from pathlib import Path

from tlx.errors import TlxError
from tlx.reporting.charts import Curve
from tlx.studies.analysis import ArmTrials, Method
from tlx.studies.statistics import mean_interval
from tlx.training.writers import read_metrics


def curve(arm: ArmTrials, metric: str, method: Method, reference: bool) -> Curve | None:
    """Returns an arm's curve, over the steps at which all of its seeds that can be read were evaluated.

    Args:
      arm: the arm; its finished trials are read from their run directories.
      metric: full name of the metric.
      method: how the band is computed.
      reference: whether it is the baseline.

    Returns:
      The curve; None if no trial has such a metric on disk.
    """
    runs = [found for trial in arm.complete if trial.workdir and (found := _read(Path(trial.workdir), metric))]
    if not runs:
        return None
    steps = sorted(set.intersection(*(set(run) for run in runs)))
    if not steps:
        return None
    means = [mean_interval([run[step] for run in runs], method) for step in steps]
    return Curve(
        arm.name, steps, [i.mean for i in means], [i.low for i in means], [i.high for i in means], reference
    )  # fmt: skip


def _read(run: Path, metric: str) -> dict[int, float]:
    try:
        lines = read_metrics(run)
    except TlxError:
        return {}
    return {line["step"]: line[metric] for line in lines if math.isfinite(line.get(metric, math.nan))}
