"""`builtin:digits`: 1797 images of handwritten digits (8 × 8 pixels), which are part of scikit-learn.

They are the test part of the UCI set "Optical recognition of handwritten digits" (Alpaydin & Kaynak 1998, CC BY 4.0).
A pixel is the number of ink pixels in a block of 4 × 4 pixels of the scan, 0 to 16. It is scaled to 0..255 by
round(255 x / 16).

For domain adaptation without any download there are three parts that share no image: `digits_source` as they are, and
`digits_target` and `digits_target_test` with a shift in the manner of MNIST-M (Ganin et al. 2016): the absolute
difference of the digit and a smooth background in random colours.
"""

from typing import Any

import numpy as np

SOURCE, TARGET = 800, 1400  # rows before these are the source's, and the target's without labels
GRID, BRIGHTEST, SEED = 2, 140, 0  # of the background: corners, largest value, seed


def columns() -> dict[str, Any]:
    """Returns `image`, uint8 (1797, 8, 8), and `label`, a list of the digits as integers."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    return {"image": np.rint(digits.images * 255 / 16).astype(np.uint8), "label": digits.target.tolist()}


def source() -> dict[str, Any]:
    """Returns the first 800 digits: `image`, uint8 (800, 8, 8), and `label`."""
    return _rows(columns(), slice(SOURCE))


def target() -> dict[str, Any]:
    """Returns the next 600 digits on backgrounds: `image`, uint8 (600, 8, 8, 3), and `label`."""
    return _rows(_shifted(columns()), slice(SOURCE, TARGET))


def target_test() -> dict[str, Any]:
    """Returns the last 397 digits on backgrounds: `image`, uint8 (397, 8, 8, 3), and `label`."""
    return _rows(_shifted(columns()), slice(TARGET, None))


def _rows(table: dict[str, Any], part: slice) -> dict[str, Any]:
    return {name: values[part] for name, values in table.items()}


def _shifted(table: dict[str, Any]) -> dict[str, Any]:
    """The absolute difference of each image and a background, whose colours are interpolated between its corners."""
    image = table["image"].astype(np.float64)[..., None]
    corners = np.random.default_rng(SEED).uniform(0, BRIGHTEST, (len(image), GRID, GRID, 3))
    along = np.linspace(0, 1, image.shape[1])
    weights = np.stack([1 - along, along])
    background = np.einsum("ih,jw,nijc->nhwc", weights, weights, corners)
    return {**table, "image": np.rint(np.abs(image - background)).astype(np.uint8)}
