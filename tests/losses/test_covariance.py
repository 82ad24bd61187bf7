"""CORAL against NumPy's covariances, finite differences, and float64."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.losses.finite import gradient
from tlx.losses import coral

RANDOM = np.random.default_rng(6)
SOURCE, TARGET = RANDOM.normal(size=(8, 4)), RANDOM.normal(size=(6, 4)) @ RANDOM.normal(size=(4, 4)) + 1
VALID = np.array([1, 0, 1, 1, 1, 1, 0, 1], bool), np.array([1, 1, 1, 0, 1, 1], bool)


def reference(source: np.ndarray, target: np.ndarray, variant: str = "paper") -> float:
    """Loops over pairs of features, with NumPy's covariance of each pair."""
    d = source.shape[1]
    of_source, of_target = np.cov(source.T), np.cov(target.T)
    squares = sum((of_source[i, j] - of_target[i, j]) ** 2 for i in range(d) for j in range(d))
    if variant == "tllib":
        return squares / d**2 + sum((source[:, i].mean() - target[:, i].mean()) ** 2 for i in range(d)) / d
    return squares / (4 * d**2)


@pytest.mark.parametrize("variant", ["paper", "tllib", "pytorch_adapt"])
def test_coral_and_its_gradient(x64: None, variant: str) -> None:
    def found(source: Any, target: Any) -> Any:
        return coral(source, target, variant=variant)

    value, gradients = jax.value_and_grad(found, argnums=(0, 1))(jnp.asarray(SOURCE), jnp.asarray(TARGET))
    np.testing.assert_allclose(value, reference(SOURCE, TARGET, variant), rtol=1e-12)
    of_source = gradient(lambda x: reference(x, TARGET, variant), SOURCE)
    of_target = gradient(lambda x: reference(SOURCE, x, variant), TARGET)
    np.testing.assert_allclose(gradients[0], of_source, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(gradients[1], of_target, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("variant", ["paper", "tllib"])
def test_rows_of_padding_count_for_nothing(x64: None, variant: str) -> None:
    def found(source: Any, target: Any) -> Any:
        return coral(source, target, *map(jnp.asarray, VALID), variant=variant)

    rows = jnp.asarray(np.where(VALID[0][:, None], SOURCE, 99.0)), jnp.asarray(TARGET)
    value, gradients = jax.value_and_grad(found, argnums=(0, 1))(*rows)
    np.testing.assert_allclose(value, reference(SOURCE[VALID[0]], TARGET[VALID[1]], variant), rtol=1e-12)
    assert not any(np.asarray(of_rows)[~valid].any() for of_rows, valid in zip(gradients, VALID))


def test_properties(x64: None) -> None:
    x, y = jnp.asarray(SOURCE), jnp.asarray(TARGET)
    np.testing.assert_allclose(coral(x, x[RANDOM.permutation(8)] + 5), 0, atol=1e-28)  # a shift has no covariance
    np.testing.assert_allclose(coral(x, x + 5, variant="tllib"), 25, rtol=1e-12)
    np.testing.assert_allclose(coral(x, y), coral(y, x), rtol=1e-12)
    np.testing.assert_allclose(coral(3 * x, 3 * y), 81 * coral(x, y), rtol=1e-12)
    rotation = jnp.asarray(np.linalg.qr(RANDOM.normal(size=(4, 4)))[0])
    np.testing.assert_allclose(coral(x @ rotation, y @ rotation), coral(x, y), rtol=1e-10)


def test_too_few_rows_give_0_and_no_gradient() -> None:
    one = jnp.array([1, 0, 0, 0, 0, 0, 0, 0])
    value, slope = jax.value_and_grad(coral)(jnp.asarray(SOURCE), jnp.asarray(TARGET), one)
    assert value == 0 and not np.asarray(slope).any()
    assert coral(jnp.asarray(SOURCE), jnp.asarray(TARGET), jnp.zeros(8)) == 0


def test_float32_keeps_its_digits_far_from_the_origin() -> None:
    """Σ x xᵀ − n mean meanᵀ, the paper's form, has no correct digit here."""
    x = (1000 + 0.1 * RANDOM.normal(size=(50, 8))).astype(np.float32)
    y = (1000 + 0.2 * RANDOM.normal(size=(50, 8))).astype(np.float32)
    expected = reference(x.astype(float), y.astype(float))
    paper = [(rows.T @ rows - len(rows) * np.outer(rows.mean(0), rows.mean(0))) / 49 for rows in (x, y)]
    assert abs(np.square(paper[0] - paper[1]).sum() / (4 * 64) / expected - 1) > 1
    np.testing.assert_allclose(coral(jnp.asarray(x), jnp.asarray(y)), expected, rtol=1e-3)
