"""The line between two trees, against NumPy."""

import numpy as np
import pytest

from tlx.errors import TlxError
from tlx.params.interpolate import interpolate

random = np.random.default_rng(0)
START = {"backbone": {"a": random.standard_normal(50).astype(np.float32)}, "head": None}
END = {"backbone": {"a": random.standard_normal(50).astype(np.float32)}, "head": np.array([-0.0, 1.0])}


def test_between() -> None:
    found = interpolate(START, END, 0.3)
    expected = 0.7 * START["backbone"]["a"].astype(np.float64) + 0.3 * END["backbone"]["a"].astype(np.float64)
    np.testing.assert_allclose(found["backbone"]["a"], expected, rtol=1e-5, atol=1e-6)
    assert found["backbone"]["a"].dtype == np.float32
    assert found["head"] is END["head"]


@pytest.mark.parametrize(("share", "side"), [(0.0, START), (1.0, END)])
def test_the_ends_to_the_bit(share: float, side: dict) -> None:
    found = interpolate(START, END, share)
    assert found["backbone"]["a"].tobytes() == side["backbone"]["a"].tobytes()
    assert found["head"].tobytes() == END["head"].tobytes()


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_refused(share: float) -> None:
    with pytest.raises(TlxError, match=r"share of the fine-tuned parameters is .*; it must be 0 to 1"):
        interpolate(START, END, share)
