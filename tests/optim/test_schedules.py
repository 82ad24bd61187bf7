"""Schedules against their closed forms."""

import math

import pytest

from tlx.errors import TlxError
from tlx.optim.schedules import make_schedule


@pytest.mark.parametrize("step", [0, 1, 5, 10, 11, 60, 99, 100])
def test_closed_forms(step: int) -> None:
    warm = step / 10
    after = (step - 10) / 90
    expected = {
        "constant": 1.0,
        "linear": 1 - after,
        "cosine": (1 + math.cos(math.pi * after)) / 2,
        "polynomial": 1 - after,
        "inverse_sqrt": math.sqrt(10 / max(step, 10)),
        "inverse": (1 + 10 * after) ** -0.75 if step >= 10 else 1.0,
    }
    for name, value in expected.items():
        found = float(make_schedule(name, 3e-4, 100, 10)(step))
        assert found == pytest.approx(3e-4 * (warm if step < 10 else value), abs=1e-10), name


@pytest.mark.parametrize("step", [0, 30, 100])
def test_power_and_final_fraction(step: int) -> None:
    left = 1 - step / 100
    for name, expected in {
        "linear": 0.1 + 0.9 * left,
        "polynomial": 0.1 + 0.9 * left**2,
        "cosine": 0.1 + 0.9 * (1 + math.cos(math.pi * step / 100)) / 2,
    }.items():
        found = float(make_schedule(name, 2.0, 100, power=2.0, final_fraction=0.1)(step))
        assert found == pytest.approx(2 * expected, rel=1e-6), name


def test_without_warmup_the_first_step_has_the_full_rate() -> None:
    assert float(make_schedule("linear", 0.5, 10)(0)) == 0.5


@pytest.mark.parametrize(
    ("name", "warmup", "message"), [("liner", 0, "tlx has constant"), ("linear", 10, "must be shorter than the run")]
)
def test_refused(name: str, warmup: int, message: str) -> None:
    with pytest.raises(TlxError, match=message):
        make_schedule(name, 1.0, 10, warmup)
