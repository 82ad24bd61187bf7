"""TCA against a general eigensolver, its constraint, and random solutions of the constraint."""

import numpy as np
import pytest
import scipy.linalg
from sklearn.metrics.pairwise import rbf_kernel

from tlx.errors import TlxError
from tlx.features.transfer_components import TransferComponents

RANDOM = np.random.default_rng(5)
SOURCE, TARGET = RANDOM.normal(size=(14, 3)), RANDOM.normal(size=(11, 3)) + np.array([1.5, 0.0, 0.0])
MU = 3.0


def matrices() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """K H K, K L K, and I + μ K L K, from L and H written out."""
    n, m = len(SOURCE), len(TARGET)
    kernel = rbf_kernel(np.concatenate([SOURCE, TARGET]), gamma=1 / 3)
    between = np.zeros((n + m, n + m))
    for i in range(n + m):
        for j in range(n + m):
            same = (i < n) == (j < n)
            between[i, j] = (1 / n**2 if i < n else 1 / m**2) if same else -1 / (n * m)
    centring = np.eye(n + m) - 1 / (n + m)
    return kernel @ centring @ kernel, kernel @ between @ kernel, np.eye(n + m) + MU * kernel @ between @ kernel


def test_against_a_general_eigensolver() -> None:
    """The eigenvectors of A⁻¹ B, which is not symmetric; a solver for symmetric matrices gives other vectors."""
    scatter, _, penalty = matrices()
    product = np.linalg.solve(penalty, scatter)
    values, vectors = scipy.linalg.eig(product)
    order = np.argsort(-values.real)[:2]
    expected = vectors[:, order].real
    found = TransferComponents(2, trade_off=MU).fit(SOURCE, TARGET).weights_
    wrong = np.linalg.eigh(product)[1][:, -1:-3:-1]
    for k in range(2):
        one, other = found[:, k] / np.linalg.norm(found[:, k]), expected[:, k] / np.linalg.norm(expected[:, k])
        np.testing.assert_allclose(abs(one @ other), 1, rtol=1e-9)
        assert abs(one @ wrong[:, k]) < 0.999


def test_the_constraint_and_the_objective() -> None:
    scatter, between, _ = matrices()
    found = TransferComponents(2, trade_off=MU).fit(SOURCE, TARGET).weights_
    np.testing.assert_allclose(found.T @ scatter @ found, np.eye(2), atol=1e-9)

    def objective(w: np.ndarray) -> float:
        return float(np.trace(w.T @ w) + MU * np.trace(w.T @ between @ w))

    for _ in range(50):
        drawn = RANDOM.normal(size=(25, 2))
        drawn = drawn @ np.linalg.inv(scipy.linalg.sqrtm(drawn.T @ scatter @ drawn)).real
        np.testing.assert_allclose(drawn.T @ scatter @ drawn, np.eye(2), atol=1e-7)
        assert objective(drawn) > objective(found)


def test_the_means_come_together_and_new_rows_are_mapped() -> None:
    apart = []
    for trade_off in (0.0, 1e3):
        fitted = TransferComponents(2, trade_off=trade_off).fit(SOURCE, TARGET)
        apart.append(np.linalg.norm(fitted.transform(SOURCE).mean(axis=0) - fitted.transform(TARGET).mean(axis=0)))
    assert apart[1] < 0.05 * apart[0]
    np.testing.assert_allclose(fitted.transform(TARGET[:3]), fitted.transform(TARGET)[:3], rtol=1e-12)
    assert TransferComponents().fit(SOURCE, TARGET).transform(SOURCE).shape == (14, 3)


def test_components_without_scatter_are_left_out() -> None:
    fitted = TransferComponents(10, kernel="linear").fit(SOURCE, TARGET)
    assert fitted.transform(SOURCE).shape == (14, 3)  # a linear kernel of three features has rank 3
    with pytest.raises(TlxError, match="components 0"):
        TransferComponents(0).fit(SOURCE, TARGET)
