"""A reliability diagram: a classifier's accuracy by its confidence (Guo et al. 2017, figure 1)."""

from pathlib import Path

import numpy as np

from tlx.evaluation.calibration import Reliability
from tlx.reporting.figure import save


def plot_reliability(bins: Reliability, file: Path) -> Path:
    """Plots accuracy by confidence, the gap to perfect calibration, and the number of predictions in each bin.

    Args:
      bins: the bins; empty ones are not drawn.
      file: the file to write; its suffix decides the format.

    Raises:
      TlxError: if the file cannot be written.
    """
    from matplotlib.figure import Figure

    nonempty = bins.counts > 0
    width = 1 / len(bins.counts)
    left = np.arange(len(bins.counts))[nonempty] * width
    accuracy, gap = bins.accuracy[nonempty], (bins.confidence - bins.accuracy)[nonempty]
    error = np.average(np.abs(gap), weights=bins.counts[nonempty])
    figure = Figure(figsize=(4.2, 5.0), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    above.bar(left, accuracy, width, align="edge", edgecolor="white", label="accuracy")
    above.bar(
        left, gap, width, accuracy,
        align="edge", color="C3", alpha=0.3, edgecolor="C3", hatch="//", label="gap to the confidence",
    )  # fmt: skip
    above.plot([0, 1], [0, 1], "--", color="grey", linewidth=1, label="perfectly calibrated")
    above.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1), title=f"calibration error {error:.3f}")
    above.legend(fontsize=7, loc="upper left")
    below.bar(left, bins.counts[nonempty], width, align="edge", edgecolor="white")
    below.set(xlabel="confidence", ylabel="examples")
    for axis in (above, below):
        axis.grid(alpha=0.3)
        axis.set_axisbelow(True)
    save(figure, file, dpi=120)
    return file
