"""Every family against transformers: all that every reference checkpoint answers, and every gradient leaf."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.models.reference import (
    THIRD_PARTY,
    VARIANTS,
    ZERO,
    errors,
    patch_dropout,
    predictions,
    reference,
    worst,
)
from tlx.models.activations import ACTIVATIONS

FLOAT64, FLOAT32 = 1e-9, 1e-5
# Of shapes that are theirs alone, compiling the whole, unoptimised, is quicker than operation by operation.
ALONE = {"bert/odd_sizes", "vit/larger_image", "vit/oblong_image", "vit/odd_sizes", "vit/one_channel"}
WHOLE = {"xla_backend_optimization_level": 0}


def measure(name: str, dtype: Any, monkeypatch: pytest.MonkeyPatch, jit: dict[str, Any] | None) -> dict[str, float]:
    """The errors of one variant, each as a part of the reference's largest entry."""
    given = reference(name)
    patch_dropout(monkeypatch)
    model, params = given.load(dtype)
    found = predictions(model, params, given, jit)
    assert all(array.dtype == dtype for array in found.values())
    return errors(found, given.expected)


def repeats(name: str) -> bool:
    """Whether another variant has run the same code: another name of an activation, or a ViT's blocks in a DeiT."""
    activation = name.removeprefix("bert/act_")
    if activation in ACTIVATIONS:
        return next(first for first, own in ACTIVATIONS.items() if own is ACTIVATIONS[activation]) != activation
    return name in ("deit/odd_sizes", "deit/larger_image", "deit/no_qkv_bias")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.long) if repeats(name) else name for name in VARIANTS]
)
def test_float64(name: str, x64: None, monkeypatch: pytest.MonkeyPatch) -> None:
    error, where = worst(measure(name, jnp.float64, monkeypatch, WHOLE if name in ALONE else None))
    assert error <= FLOAT64, where


# In float32 a variant of each family; the others, which float64 has compared, by `make long`.
QUICK = {f"{family}/base" for family in ("bert", "distilbert", "electra", "roberta", "vit")}
IN_FLOAT32 = [name if name in QUICK else pytest.param(name, marks=pytest.mark.long) for name in VARIANTS]


@pytest.mark.parametrize("name", IN_FLOAT32)
def test_float32(name: str, full_precision: None, monkeypatch: pytest.MonkeyPatch) -> None:
    error, where = worst(measure(name, jnp.float32, monkeypatch, WHOLE if name in ALONE | QUICK else None))
    assert error <= FLOAT32, where


def test_compiled_as_users_compile_it(full_precision: None, monkeypatch: pytest.MonkeyPatch) -> None:
    error, where = worst(measure("bert/dropout_no_own_rate", jnp.float32, monkeypatch, {}))
    assert error <= FLOAT32, where


@pytest.mark.parametrize("name", VARIANTS)
def test_reference_can_tell(name: str) -> None:
    """What makes agreement mean something: large weights everywhere, sharp attention, gradients that are not zero."""
    given = reference(name)
    weights = load_file(given.folder / "model.safetensors")
    spread = 0.3 * (32 / given.config.get("hidden_size", 32)) ** 0.5
    assert all(np.std(weight) > spread / 2 for weight in weights.values() if weight.size > 4)
    attention = given.arrays["output/attentions/0"]
    if not given.arrays["train"]:
        np.testing.assert_allclose(attention.sum(-1), 1, rtol=1e-12)
        assert np.mean(attention.max(-1)) > 3 / attention.shape[-1]
    gradients = given.group("gradient")
    zero = {name for name, gradient in gradients.items() if np.abs(gradient).max() < ZERO}
    # softmax does not see them
    nothing = ("self.key.bias", "attention.attention.key.bias", "attention.k_lin.bias", "qa_outputs.bias")
    choices = "input/input_ids" in given.arrays and given.arrays["input/input_ids"].ndim == 3
    assert [n for n in zero if not (n.endswith(nothing) or (n == "classifier.bias" and choices))] == []
    if "/act_" not in name:  # those keep some gradients only, to save room
        others = {name for name in weights if name.startswith("discriminator_predictions.")}
        if name.endswith("untied"):  # the bias that is read only where it is tied
            others = {name for name in weights if name in ("cls.predictions.bias", "lm_head.bias")}
        assert gradients.keys() == weights.keys() - others


def test_every_activation_has_a_reference() -> None:
    assert {f"bert/act_{name}" for name in ACTIVATIONS} <= set(VARIANTS)


def test_references_stay_small() -> None:
    assert sum(file.stat().st_size for file in THIRD_PARTY.rglob("*")) < 28e6
