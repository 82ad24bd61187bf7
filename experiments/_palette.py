"""A picture of true and predicted colours, for a regression to CIELAB."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tlx.data.colors import TO_XYZ, WHITE
from tlx.reporting.figure import save


def plot_palette(names: Sequence[str], columns: Mapping[str, np.ndarray], file: Path, panels: int = 3) -> Path:
    """Draws one row per name and one swatch per column.

    Args:
      names: the label of each row.
      columns: CIELAB by title, each (names, 3); the first are the true colours.
      file: the PNG to write.
      panels: number of panels side by side.
    """
    from matplotlib.figure import Figure

    rows = -(-len(names) // panels)
    figure = Figure(figsize=(4.3 * panels, 0.30 * rows + 1.0), layout="constrained")
    for panel, axis in enumerate(figure.subplots(1, panels, squeeze=False)[0]):
        shown = slice(panel * rows, (panel + 1) * rows)
        swatches = np.stack([lab_to_srgb(np.asarray(lab[shown], np.float64)) for lab in columns.values()], axis=1)
        axis.imshow(swatches, aspect="auto", interpolation="nearest")
        axis.set_yticks(range(len(names[shown])), names[shown], fontsize=9)
        axis.set_xticks(range(len(columns)), columns, fontsize=8)
        axis.tick_params(length=0, labeltop=True, labelbottom=False)
        axis.set_xticks(np.arange(len(columns) - 1) + 0.5, minor=True)
        axis.set_yticks(np.arange(len(names[shown]) - 1) + 0.5, minor=True)
        axis.grid(which="minor", color="white", linewidth=2)
        axis.tick_params(which="minor", length=0)
        for spine in axis.spines.values():
            spine.set_visible(False)
    save(figure, file, dpi=130)
    return file


def lab_to_srgb(lab: np.ndarray) -> np.ndarray:
    """Converts CIELAB (…, 3) to sRGB (…, 3), clipped to [0, 1]."""
    fy = (lab[..., 0] + 16) / 116
    f = np.stack([fy + lab[..., 1] / 500, fy, fy - lab[..., 2] / 200], axis=-1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * WHITE
    linear = np.clip(xyz @ np.linalg.inv(TO_XYZ).T, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
