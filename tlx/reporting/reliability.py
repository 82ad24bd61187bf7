"""A reliability diagram: how often a classifier is right, by how sure it is (Guo et al. 2017, figure 1)."""

from pathlib import Path

import numpy as np

from tlx.evaluation.calibration import Reliability
from tlx.reporting.figure import save


def plot_reliability(bins: Reliability, file: Path) -> Path:
    """Draws accuracy by confidence, the gap to the diagonal (perfect calibration), and how many answers a bin has; bins
    without any are not drawn. file: the PNG to write."""
    from matplotlib.figure import Figure

    held = bins.counts > 0
    width = 1 / len(bins.counts)
    left = np.arange(len(bins.counts))[held] * width
    accuracy, gap = bins.accuracy[held], (bins.confidence - bins.accuracy)[held]
    error = np.average(np.abs(gap), weights=bins.counts[held])
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
    below.bar(left, bins.counts[held], width, align="edge", edgecolor="white")
    below.set(xlabel="confidence", ylabel="examples")
    for axis in (above, below):
        axis.grid(alpha=0.3)
        axis.set_axisbelow(True)
    save(figure, file, dpi=120)
    return file
