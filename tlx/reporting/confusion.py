"""A plot of a confusion matrix."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tlx.reporting.figure import save

# Counts are written for up to WRITTEN classes and every name for up to NAMED, so that they remain legible.
WRITTEN, NAMED = 20, 100


def plot_confusion(table: np.ndarray, names: Sequence[str], file: Path) -> Path:
    """Plots a confusion matrix with its counts; the color of a cell is its fraction of the row.

    Args:
      table: counts (classes, classes); rows are labels, columns are predictions.
      names: the names of the classes.
      file: the file to write; its suffix decides the format.

    Raises:
      TlxError: if the file cannot be written.
    """
    from matplotlib.figure import Figure

    classes = len(names)
    share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    size = min(2.5 + 0.42 * classes, 14.0)
    figure = Figure(figsize=(size + 1.0, size), layout="constrained")
    axis = figure.subplots()
    image = axis.imshow(share, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    font, ticks = (8 if classes <= WRITTEN else 6), range(0, classes, -(-classes // NAMED))
    tick_labels = [names[index] for index in ticks]
    axis.set_xticks(ticks, tick_labels, rotation=45, ha="right", rotation_mode="anchor", fontsize=font)
    axis.set_yticks(ticks, tick_labels, fontsize=font)
    axis.set(xlabel="prediction", ylabel="label")
    axis.tick_params(length=0)
    if classes <= WRITTEN:
        for (row, column), count in np.ndenumerate(table):
            color = "white" if share[row, column] > 0.55 else "black" if count else "lightgray"
            axis.text(column, row, str(count), ha="center", va="center", fontsize=7, color=color)
    for spine in axis.spines.values():
        spine.set_visible(False)
    figure.colorbar(image, ax=axis, label="fraction of the label", shrink=0.8)
    save(figure, file, dpi=120, bbox_inches="tight")  # otherwise the axis labels of a square image are cropped
    return file
