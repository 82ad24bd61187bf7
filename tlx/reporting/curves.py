"""A plot of learning curves: losses and validation metrics by step."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tlx.reporting.figure import save

IN_A_ROW = 4  # panels, at most


def plot_curves(runs: Mapping[str, Sequence[Mapping[str, Any]]], file: Path) -> Path:
    """Plots the learning curves of runs, one color for each run: the losses, then a panel for each metric.

    Args:
      runs: the lines of each run's `metrics.jsonl`, by the run's name.
      file: the file to write; its suffix decides the format.

    Raises:
      TlxError: if the file cannot be written.
    """
    from matplotlib.figure import Figure

    metrics = sorted(
        {name for lines in runs.values() for line in lines for name in line if name.startswith("validation/")}
    )
    metrics = [name for name in metrics if name != "validation/loss"]
    panels = 1 + len(metrics)
    rows = -(-panels // IN_A_ROW)
    columns = -(-panels // rows)
    width, height = 4.2 * columns, 3.2 * rows
    # Fixed margins in inches: the panels are alike, and matplotlib's layout engines take longer than the drawing.
    margins = {"left": 0.55 / width, "right": 1 - 0.15 / width, "bottom": 0.5 / height, "top": 1 - 0.35 / height}
    figure = Figure(figsize=(width, height))
    grid = figure.subplots(rows, columns, squeeze=False, gridspec_kw=margins | {"wspace": 0.2, "hspace": 0.4})
    axes, unused = grid.flat[:panels], grid.flat[panels:]
    for axis in unused:
        axis.set_axis_off()
    for index, (name, lines) in enumerate(runs.items()):
        color = f"C{index}"
        for metric, style in (("train/loss", ":"), ("validation/loss", "-")):
            axes[0].plot(*_series(lines, metric), style, color=color, label=f"{name}, {metric.split('/')[0]}")
        for axis, metric in zip(axes[1:], metrics, strict=True):
            axis.plot(*_series(lines, metric), ".-", color=color, label=name)
    for axis, title in zip(axes, ("loss", *metrics), strict=True):
        axis.set(title=title, xlabel="step")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7)
    save(figure, file, dpi=120)
    return file


def _series(lines: Sequence[Mapping[str, Any]], name: str) -> tuple[list[int], list[float]]:
    points = [(line["step"], line[name]) for line in lines if name in line]
    return [step for step, _ in points], [value for _, value in points]
