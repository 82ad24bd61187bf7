"""Curves over a count; each point is the mean of several samples, shown with their range."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tlx.reporting.figure import save


def plot_bands(curves: Mapping[str, Mapping[int, Sequence[float]]], across: str, up: str, file: Path) -> Path:
    """Plots the means of each curve, its samples as dots and their range as a band.

    Args:
      curves: by name, the samples by count.
      across: label of the x axis.
      up: label of the y axis.
      file: the PNG to write.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 3.6), layout="constrained")
    axis = figure.subplots()
    for index, (name, curve) in enumerate(curves.items()):
        counts, draws = list(curve), [curve[count] for count in curve]
        colour = f"C{index}"
        axis.plot(counts, [np.mean(values) for values in draws], "-", color=colour, label=name)
        axis.fill_between(counts, [min(v) for v in draws], [max(v) for v in draws], color=colour, alpha=0.15, lw=0)
        for count, values in zip(counts, draws, strict=True):
            axis.plot([count] * len(values), values, ".", color=colour, markersize=4)
    ticks = sorted({count for curve in curves.values() for count in curve})
    axis.set_xscale("log")
    axis.set_xticks(ticks, [str(count) for count in ticks])
    axis.minorticks_off()
    axis.set(xlabel=across, ylabel=up)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    save(figure, file, dpi=120)
    return file
