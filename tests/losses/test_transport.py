"""DeepJDOT's alignment against Sinkhorn's iterations in NumPy, an exact assignment (SciPy) and POT."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from scipy.special import log_softmax, logsumexp

from tlx.losses import sinkhorn_alignment

pytest.importorskip("ott")
RANDOM = np.random.default_rng(12)
SOURCE, TARGET = RANDOM.normal(size=(7, 3)), RANDOM.normal(size=(6, 3)) + 0.5
LABELS, LOGITS = RANDOM.integers(0, 4, 7), RANDOM.normal(size=(6, 4))
VALID = np.array([1, 0, 1, 1, 1, 1, 1], bool), np.array([1, 1, 1, 0, 1, 1], bool)
ALPHA, LAMBDA = 0.7, 1.3


def costs(source: np.ndarray, target: np.ndarray, labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    rows = []
    for x, label in zip(source, labels):
        rows.append([ALPHA * np.sum((x - z) ** 2) - LAMBDA * log_softmax(o)[label] for z, o in zip(target, logits)])
    return np.array(rows)


def coupling(cost: np.ndarray, epsilon: float) -> np.ndarray:
    """Sinkhorn's iterations on the dual potentials f and g, with uniform marginals."""
    n, m = cost.shape
    f, g, epsilon = np.zeros(n), np.zeros(m), epsilon * cost.mean()
    for _ in range(5000):
        f = -epsilon * (logsumexp((g - cost) / epsilon, axis=1) + np.log(n))
        g = -epsilon * (logsumexp((f[:, None] - cost) / epsilon, axis=0) + np.log(m))
    return np.exp((f[:, None] + g - cost) / epsilon)


def found(source: Any, target: Any, logits: Any, *weights: Any, epsilon: float = 0.1, labels: Any = LABELS) -> Any:
    return sinkhorn_alignment(
        source, target, jnp.asarray(labels), logits, *weights, feature_weight=ALPHA, label_weight=LAMBDA,
        epsilon=epsilon, threshold=1e-13, max_iterations=20_000,
    )  # fmt: skip


def test_the_value_and_its_gradient(x64: None) -> None:
    """The coupling is a constant in differentiation, so the gradient has a closed form."""
    cost = costs(SOURCE, TARGET, LABELS, LOGITS)
    gamma = coupling(cost, 0.1)
    np.testing.assert_allclose(gamma.sum(axis=1), 1 / 7, rtol=1e-9)
    arrays = tuple(map(jnp.asarray, (SOURCE, TARGET, LOGITS)))
    value, slopes = jax.value_and_grad(found, argnums=(0, 1, 2))(*arrays)
    np.testing.assert_allclose(value, (gamma * cost).sum(), rtol=1e-9)
    apart = 2 * ALPHA * gamma[:, :, None] * (SOURCE[:, None] - TARGET)
    np.testing.assert_allclose(slopes[0], apart.sum(axis=1), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(slopes[1], -apart.sum(axis=0), rtol=1e-6, atol=1e-9)
    given = gamma.T @ np.eye(4)[LABELS]  # how much of each label arrives at a row of the target
    of_logits = LAMBDA * (given.sum(axis=1, keepdims=True) * np.exp(log_softmax(LOGITS, axis=1)) - given)
    np.testing.assert_allclose(slopes[2], of_logits, rtol=1e-6, atol=1e-9)


def test_rows_of_padding_count_for_nothing(x64: None) -> None:
    source, target = np.where(VALID[0][:, None], SOURCE, 1e3), np.where(VALID[1][:, None], TARGET, -1e3)
    arrays, weights = tuple(map(jnp.asarray, (source, target, LOGITS))), tuple(map(jnp.asarray, VALID))
    value, slope = jax.value_and_grad(found)(*arrays, *weights)
    cost = costs(SOURCE[VALID[0]], TARGET[VALID[1]], LABELS[VALID[0]], LOGITS[VALID[1]])
    np.testing.assert_allclose(value, (coupling(cost, 0.1) * cost).sum(), rtol=1e-9)
    assert np.isfinite(slope).all() and not np.asarray(slope)[~VALID[0]].any()
    value, slope = jax.value_and_grad(found)(*arrays, jnp.zeros(7), weights[1])
    assert value == 0 and not np.asarray(slope).any()


def test_a_small_epsilon_gives_exact_transport(x64: None) -> None:
    """Between sets of equal size with uniform weights that is an assignment."""
    cost = costs(SOURCE[:6], TARGET, LABELS[:6], LOGITS)
    exact = cost[linear_sum_assignment(cost)].mean()
    arrays = tuple(map(jnp.asarray, (SOURCE[:6], TARGET, LOGITS)))
    values = [float(found(*arrays, epsilon=epsilon, labels=LABELS[:6])) for epsilon in (0.3, 0.03, 0.003)]
    assert values[0] > values[1] > values[2] > exact - 1e-9
    np.testing.assert_allclose(values[2], exact, rtol=1e-4)


def test_probabilities_as_labels_and_sets_that_are_equal(x64: None) -> None:
    arrays = tuple(map(jnp.asarray, (SOURCE, TARGET, LOGITS)))
    np.testing.assert_allclose(found(*arrays, labels=np.eye(4)[LABELS]), found(*arrays), rtol=1e-12)
    same = sinkhorn_alignment(*[jnp.ones((4, 2))] * 2, jnp.zeros(4, int), jnp.zeros((4, 3)), label_weight=0.0)
    assert same == 0  # all costs are 0


def test_against_pot(x64: None) -> None:
    ot = pytest.importorskip("ot")
    cost = costs(SOURCE, TARGET, LABELS, LOGITS)
    uniform = np.full(7, 1 / 7), np.full(6, 1 / 6)
    for epsilon in (0.1, 0.02):
        settings = {"method": "sinkhorn_log", "stopThr": 1e-13, "numItermax": 20_000}
        gamma = ot.sinkhorn(*uniform, cost, epsilon * cost.mean(), **settings)
        value = found(*map(jnp.asarray, (SOURCE, TARGET, LOGITS)), epsilon=epsilon)
        np.testing.assert_allclose(value, (gamma * cost).sum(), rtol=1e-6)
    assert ot.emd2(*uniform, cost) < found(*map(jnp.asarray, (SOURCE, TARGET, LOGITS)), epsilon=0.02)


def test_the_default_settings_in_float32() -> None:
    """As a method uses them: the coupling is within a few percent of exact transport."""
    source, target = RANDOM.normal(size=(64, 16)), RANDOM.normal(size=(64, 16)) + 0.3
    labels, logits = RANDOM.integers(0, 4, 64), RANDOM.normal(size=(64, 4))
    value = jax.jit(sinkhorn_alignment)(*(jnp.asarray(x, jnp.float32) for x in (source, target)), labels, logits)
    squares = ((source[:, None] - target) ** 2).sum(-1)
    cost = 1e-3 * squares - 1e-4 * log_softmax(logits, axis=1)[:, labels].T
    exact = cost[linear_sum_assignment(cost)].mean()
    assert value.dtype == jnp.float32 and exact < value < 1.05 * exact
