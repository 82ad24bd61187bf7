"""Losses of unlabelled predictions against loops in NumPy and SciPy's entropy."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.special import softmax

from tests.losses.finite import gradient
from tlx import losses

RANDOM = np.random.default_rng(8)
LOGITS, OTHER = 2 * RANDOM.normal(size=(6, 4)), 2 * RANDOM.normal(size=(6, 4))
VALID = np.array([1, 1, 0, 1, 0, 1], bool)


def row_entropy(p: np.ndarray, epsilon: float) -> float:
    return -sum(x * np.log(x + epsilon) for x in p) if epsilon else float(stats.entropy(p))


def entropy(logits: np.ndarray, variant: str) -> float:
    return float(np.mean([row_entropy(softmax(row), 1e-5 if variant == "tllib" else 0) for row in logits]))


def information(logits: np.ndarray, variant: str) -> float:
    epsilon = 1e-5 if variant == "authors" else 0
    each = np.mean([row_entropy(softmax(row), epsilon) for row in logits])
    mean = softmax(logits.mean(0)) if variant == "pytorch_adapt" else softmax(logits, axis=1).mean(0)
    return float(each - row_entropy(mean, epsilon))


def confusion(logits: np.ndarray, variant: str, weights: np.ndarray | None = None) -> float:
    """weights: W where it is held, as it is in differentiation of the variants that stop its gradient."""
    n, classes = logits.shape
    y = softmax(logits / 2.5, axis=1)
    w = reliability(logits, variant) if weights is None else weights
    matrix = np.zeros((classes, classes))
    for i in range(n):
        for j in range(classes):
            for k in range(classes):
                matrix[j, k] += n * w[i] / w.sum() * y[i, j] * y[i, k]
    return sum(matrix[j, k] / matrix[j].sum() for j in range(classes) for k in range(classes) if j != k) / classes


def reliability(logits: np.ndarray, variant: str) -> np.ndarray:
    epsilon = 1e-5 if variant == "tllib" else 0
    return np.array([1 + np.exp(-row_entropy(softmax(row / 2.5), epsilon)) for row in logits])


def held_confusion(logits: np.ndarray, variant: str) -> float:
    return confusion(logits, variant, None if variant == "paper" else reliability(LOGITS, variant))


def apart(logits: np.ndarray, variant: str) -> float:
    return float(np.mean([abs(a - b) for x, y in zip(logits, OTHER) for a, b in zip(softmax(x), softmax(y))]))


def discrepancy(logits: Any, weight: Any = None, variant: str = "paper") -> Any:
    return losses.mcd_discrepancy(logits, jnp.asarray(OTHER), weight)


Case = tuple[Callable[..., Any], Callable[..., float], str]
CASES: list[Case] = [
    *((losses.entropy, entropy, variant) for variant in ("paper", "tllib", "pytorch_adapt")),
    *((losses.information_maximization, information, variant) for variant in ("paper", "authors", "pytorch_adapt")),
    *((losses.minimum_class_confusion, held_confusion, variant) for variant in ("paper", "tllib", "pytorch_adapt")),
    (discrepancy, apart, "paper"),
]
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0].__name__}-{case[2]}")


@each_case
def test_the_value_and_its_gradient(x64: None, case: Case) -> None:
    function, reference, variant = case
    value, slope = jax.value_and_grad(lambda x: function(x, variant=variant))(jnp.asarray(LOGITS))
    np.testing.assert_allclose(value, reference(LOGITS, variant), rtol=1e-12)
    np.testing.assert_allclose(slope, gradient(lambda x: reference(x, variant), LOGITS), rtol=1e-6, atol=1e-9)


@each_case
def test_rows_of_padding_count_for_nothing(x64: None, case: Case) -> None:
    function, _, variant = case
    padded, weight = np.where(VALID[:, None], LOGITS, 50.0), jnp.asarray(VALID)
    value, slope = jax.value_and_grad(lambda x: function(x, weight, variant=variant))(jnp.asarray(padded))
    if function is discrepancy:
        alone = losses.mcd_discrepancy(jnp.asarray(LOGITS[VALID]), jnp.asarray(OTHER[VALID]))
    else:
        alone = function(jnp.asarray(LOGITS[VALID]), variant=variant)
    np.testing.assert_allclose(value, alone, rtol=1e-12)
    assert np.isfinite(slope).all() and not np.asarray(slope)[~VALID].any()
    value, slope = jax.value_and_grad(lambda x: function(x, 0 * weight, variant=variant))(jnp.asarray(padded))
    assert value == 0 and not np.asarray(slope).any()


@each_case
def test_the_order_of_rows_does_not_matter(x64: None, case: Case) -> None:
    function, _, variant = case
    order = RANDOM.permutation(6)
    if function is discrepancy:
        one, two = (losses.mcd_discrepancy(jnp.asarray(LOGITS[o]), jnp.asarray(OTHER[o])) for o in (order, range(6)))
    else:
        one, two = (function(jnp.asarray(LOGITS[o]), variant=variant) for o in (order, np.arange(6)))
    np.testing.assert_allclose(one, two, rtol=1e-12)


@each_case
def test_certain_predictions_have_finite_values_and_gradients(case: Case) -> None:
    """In float32, with probabilities that are 0."""
    function, _, variant = case
    certain = jnp.asarray(300 * np.eye(4)[[0, 1, 2, 3, 3, 0]], jnp.float32)
    value, slope = jax.value_and_grad(lambda x: function(x, variant=variant))(certain)
    assert np.isfinite(value) and np.isfinite(slope).all()


def test_bounds(x64: None) -> None:
    balanced, same = jnp.asarray(300 * np.eye(4)), jnp.zeros((5, 4))
    np.testing.assert_allclose(losses.information_maximization(balanced), -np.log(4), rtol=1e-12)
    np.testing.assert_allclose(losses.information_maximization(same), 0, atol=1e-12)
    np.testing.assert_allclose(losses.entropy(same), np.log(4), rtol=1e-12)
    np.testing.assert_allclose(losses.minimum_class_confusion(balanced), 0, atol=1e-12)
    np.testing.assert_allclose(losses.minimum_class_confusion(same), 3 / 4, rtol=1e-12)
    np.testing.assert_allclose(losses.mcd_discrepancy(balanced, balanced[::-1]), 2 / 4, rtol=1e-12)
    assert losses.mcd_discrepancy(balanced, balanced) == 0


def test_mcd_discrepancy_of_the_second_classifier(x64: None) -> None:
    found = jax.grad(lambda x: losses.mcd_discrepancy(jnp.asarray(OTHER), x))(jnp.asarray(LOGITS))
    np.testing.assert_allclose(found, gradient(lambda x: apart(x, ""), LOGITS), rtol=1e-6, atol=1e-9)
