"""A plot of a learning-rate range test: the loss by learning rate, and the rate of its steepest descent."""

from pathlib import Path

import numpy as np

from tlx.reporting.figure import save


def plot_range_test(rates: np.ndarray, losses: np.ndarray, smoothed: np.ndarray, suggested: float, file: Path) -> Path:
    """Plots a range test.

    Args:
      rates: the learning rate of each step, (steps,).
      losses: the loss of each step, (steps,).
      smoothed: the smoothed loss of each step, (steps,).
      suggested: the learning rate to mark.
      file: the file to write; its suffix decides the format.

    Raises:
      TlxError: if the file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 3.4), layout="constrained")
    axis = figure.subplots()
    axis.plot(rates, losses, color="C0", alpha=0.3, label="each step")
    axis.plot(rates, smoothed, color="C0", label="smoothed")
    axis.axvline(suggested, color="C1", linestyle="--", label=f"steepest: {suggested:.1e}")
    axis.set(xscale="log", xlabel="learning rate", title="loss")
    axis.set_ylim(0.9 * float(smoothed.min()), 1.1 * float(min(smoothed.max(), 2 * smoothed[0])))
    axis.grid(alpha=0.3)
    axis.legend(fontsize=7)
    save(figure, file, dpi=120)
    return file
