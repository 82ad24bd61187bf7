"""A plot of learning curves: losses and validation metrics by step."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tlx.reporting.figure import save


def plot_curves(runs: Mapping[str, Sequence[Mapping[str, Any]]], file: Path) -> Path:
    """Plots the learning curves of runs, one color for each run.

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
    figure = Figure(figsize=(4.2 * (1 + len(metrics)), 3.2), layout="constrained")
    axes = figure.subplots(1, 1 + len(metrics), squeeze=False)[0]
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
