"""Plots of images: a grid of images with captions, and images darkened where a weight is low."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tlx.reporting.figure import save

ACROSS, SIDE = 6, 1.6  # images in a row, and the side of an image in inches


def plot_sheet(images: Sequence[np.ndarray], lines: Sequence[str], title: str, file: Path) -> Path:
    """Plots a grid of images with captions.

    Args:
      images: uint8 (height, width, 3) each, of any size.
      lines: the caption of each image.
      title: the title of the figure.
      file: the file to write; its suffix decides the format.

    Raises:
      TlxError: if the file cannot be written.
    """
    from matplotlib.figure import Figure

    across = min(ACROSS, len(images))
    down = -(-len(images) // across)
    figure = Figure(figsize=(across * SIDE, down * (SIDE + 0.35) + 0.4), layout="constrained")
    figure.suptitle(title, fontsize=9)
    axes = np.atleast_1d(figure.subplots(down, across)).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, image, line in zip(axes, images, lines, strict=False):
        axis.imshow(image, interpolation="nearest")
        axis.set_title(line, fontsize=7, pad=2)
    save(figure, file, dpi=120)
    return file


def overlaid(image: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Darkens an image where a weight, such as attention, is low.

    Args:
      image: uint8 (height, width, 3).
      weight: the weight of each patch, (rows, columns), not negative.

    Returns:
      uint8 (height, width, 3).
    """
    from PIL import Image

    height, width = image.shape[:2]
    share = Image.fromarray((weight / max(weight.max(), 1e-12)).astype(np.float32))
    light = np.asarray(share.resize((width, height), Image.Resampling.BICUBIC)).clip(0, 1)
    return (image * (0.15 + 0.85 * light[..., None])).astype(np.uint8)
