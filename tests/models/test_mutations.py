"""Would the parity test notice? Faults planted in tlx, each of which must exceed its tolerance a hundredfold."""

import jax.numpy as jnp
import pytest

from tests.models.family_faults import FAMILY_FAULTS
from tests.models.faults import FAULTS, Fault
from tests.models.image_faults import IMAGE_FAULTS
from tests.models.reference import errors, patch_dropout, predictions, reference, worst
from tests.models.test_parity import FLOAT32, FLOAT64
from tlx.params.paths import flatten, unflatten

# These move the numbers so little that float32's tolerance is not exceeded a hundredfold; float64's is.
SLIGHT = {"erf for tanh", "eps 1e-12 for 1e-5", "distilbert: another eps", "vit: erf for tanh"}
EVERY = {**FAULTS, **FAMILY_FAULTS, **IMAGE_FAULTS}


def error_with(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> float:
    """The largest error of the fault's variant, as a part of the reference's largest entry."""
    given = reference(fault.variant)
    patch_dropout(monkeypatch)
    fault.plant(monkeypatch)
    model, params = given.load(jnp.float64, **fault.config)
    found = predictions(model, unflatten(fault.params(flatten(params))), given, gradient=fault.gradient)
    return worst(errors(found, {name: right for name, right in given.expected.items() if name in found}))[0]


# A third of them, spread over the families, in every run of the tests; `make faults` plants the others.
SHARE = 3
FAULTY = [pytest.param(name, marks=[pytest.mark.faults] if i % SHARE else []) for i, name in enumerate(EVERY)]


@pytest.mark.parametrize("name", FAULTY)
def test_fault_is_seen(name: str, x64: None, monkeypatch: pytest.MonkeyPatch) -> None:
    error = error_with(EVERY[name], monkeypatch)
    print(f"{name}: {error / FLOAT64:.1e} x float64, {error / FLOAT32:.1e} x float32")
    assert error > 100 * (FLOAT64 if name in SLIGHT else FLOAT32)


@pytest.mark.parametrize(
    "variant",
    [
        "bert/plain",
        pytest.param("deit/dropout", marks=pytest.mark.faults),
        *(f"{family}/dropout" for family in ("bert", "distilbert", "electra", "roberta", "vit")),
    ],
)
def test_without_fault_nothing_is_seen(variant: str, x64: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert error_with(Fault(variant, gradient=True), monkeypatch) < FLOAT64
