"""`builtin:digits`: the 1797 handwritten digits of 8×8 pixels that ship inside scikit-learn.

The test part of the UCI set "Optical recognition of handwritten digits" (Alpaydin & Kaynak 1998, CC BY 4.0). A pixel
counts the inked ones among 4×4 of the scan, 0 to 16; here it is brought to 0..255 by round(255 x / 16).
"""

from typing import Any

import numpy as np


def columns() -> dict[str, Any]:
    """`image`, uint8 (1797, 8, 8), and `label`, a list of the digits as whole numbers."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return {"image": np.rint(found.images * 255 / 16).astype(np.uint8), "label": found.target.tolist()}
