"""The demo's colours on a screen."""

import sys
from pathlib import Path

import numpy as np

from tlx.data.colors import srgb_to_lab

sys.path.append(str(Path(__file__).parents[2] / "experiments"))

from _palette import lab_to_srgb


def test_there_and_back() -> None:
    """Through the conversion that the data set has, which tests/data/test_colors.py holds against published values."""
    rgb = np.stack(np.meshgrid(*[np.linspace(0, 1, 11)] * 3), axis=-1)
    np.testing.assert_allclose(lab_to_srgb(srgb_to_lab(rgb)), rgb, atol=1e-9)
