"""`builtin:digits`: 1797 images of handwritten digits (8 × 8 pixels), which are part of scikit-learn.

They are the test part of the UCI set "Optical recognition of handwritten digits" (Alpaydin & Kaynak 1998, CC BY 4.0).
A pixel is the number of ink pixels in a block of 4 × 4 pixels of the scan, 0 to 16. It is scaled to 0..255 by
round(255 x / 16).
"""

from typing import Any

import numpy as np


def columns() -> dict[str, Any]:
    """Returns `image`, uint8 (1797, 8, 8), and `label`, a list of the digits as integers."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    return {"image": np.rint(digits.images * 255 / 16).astype(np.uint8), "label": digits.target.tolist()}
