"""Which class was taken for which, as a picture."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tlx.reporting.figure import save

# How many classes are still legible: counts are written up to the first, every name up to the second.
WRITTEN, NAMED = 20, 100


def plot_confusion(table: np.ndarray, names: Sequence[str], file: Path) -> Path:
    """Draws one row a class, coloured by its share of the row, with the counts written in.

    Args:
      table: counts (classes, classes); the row is the label, the column the answer.
      names: the classes'.
      file: the PNG to write.
    """
    from matplotlib.figure import Figure

    classes = len(names)
    share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    size = min(2.5 + 0.42 * classes, 14.0)
    figure = Figure(figsize=(size + 1.0, size), layout="constrained")
    axis = figure.subplots()
    image = axis.imshow(share, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    font, named = (8 if classes <= WRITTEN else 6), range(0, classes, -(-classes // NAMED))
    shown = [names[index] for index in named]
    axis.set_xticks(named, shown, rotation=45, ha="right", rotation_mode="anchor", fontsize=font)
    axis.set_yticks(named, shown, fontsize=font)
    axis.set(xlabel="answered", ylabel="label")
    axis.tick_params(length=0)
    if classes <= WRITTEN:
        for (row, column), count in np.ndenumerate(table):
            colour = "white" if share[row, column] > 0.55 else "black" if count else "lightgrey"
            axis.text(column, row, str(count), ha="center", va="center", fontsize=7, color=colour)
    for spine in axis.spines.values():
        spine.set_visible(False)
    figure.colorbar(image, ax=axis, label="share of the label", shrink=0.8)
    save(figure, file, dpi=120, bbox_inches="tight")  # a square image leaves the axis' own label outside
    return file
