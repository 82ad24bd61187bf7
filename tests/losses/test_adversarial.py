"""Gradient reversal, domain losses and CDAN's conditioning against loops in NumPy."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.special import expit, softmax
from sklearn.metrics import log_loss

from tests.losses.finite import gradient
from tlx import losses
from tlx.losses.adversarial import domain_cross_entropy

RANDOM = np.random.default_rng(9)
SOURCE, TARGET = 2 * RANDOM.normal(size=7), 2 * RANDOM.normal(size=5)
FEATURES, LOGITS = RANDOM.normal(size=(6, 3)), RANDOM.normal(size=(6, 4))
VALID = np.array([1, 0, 1, 1, 0, 1, 1], bool), np.array([1, 1, 0, 1, 1], bool)


def test_gradient_reversal(x64: None) -> None:
    """The value passes, the gradient changes its sign; alpha may be traced and has no gradient of its own."""
    x, weight = jnp.asarray(FEATURES), jnp.asarray(RANDOM.normal(size=(6, 3)))

    def value(x: Any, alpha: Any) -> Any:
        return jnp.sum(weight * losses.gradient_reversal(x, alpha) ** 2)

    np.testing.assert_array_equal(losses.gradient_reversal(x), x)
    of_x, of_alpha = jax.jit(jax.grad(value, argnums=(0, 1)))(x, 0.3)
    np.testing.assert_allclose(of_x, -0.3 * 2 * weight * x, rtol=1e-12)
    assert of_alpha == 0
    np.testing.assert_allclose(jax.grad(lambda x: losses.gradient_reversal(x).sum())(x), -np.ones((6, 3)))
    assert losses.gradient_reversal(x.astype(jnp.bfloat16)).dtype == jnp.bfloat16


@pytest.mark.parametrize("alpha", [1.0, 10.0])
def test_warm_start(x64: None, alpha: float) -> None:
    progress = np.linspace(0, 1, 11)
    expected = 2 / (1 + np.exp(-alpha * progress)) - 1
    np.testing.assert_allclose(losses.warm_start(jnp.asarray(progress), alpha), expected, rtol=1e-12, atol=1e-15)
    assert losses.warm_start(0.0) == 0
    tiny = jnp.asarray(1e-6, jnp.float32)  # 2 / (1 + exp(−x)) − 1 has two digits left here
    np.testing.assert_allclose(losses.warm_start(tiny), 5e-6, rtol=1e-6)


def domain(source: np.ndarray, target: np.ndarray, variant: str) -> float:
    value = 0.0
    for x in source:
        value -= np.log(expit(x)) / len(source)
    for x in target:
        value -= np.log(1 - expit(x)) / len(target)
    return value / 2 if variant == "tllib" else value


@pytest.mark.parametrize("variant", ["paper", "tllib"])
def test_domain_adversarial_and_its_gradient(x64: None, variant: str) -> None:
    def found(source: Any, target: Any) -> Any:
        return losses.domain_adversarial(source, target, variant=variant)

    at = jnp.asarray(SOURCE), jnp.asarray(TARGET)
    value, gradients = jax.value_and_grad(found, argnums=(0, 1))(*at)
    np.testing.assert_allclose(value, domain(SOURCE, TARGET, variant), rtol=1e-12)
    of_source = gradient(lambda x: domain(x, TARGET, variant), SOURCE)
    of_target = gradient(lambda x: domain(SOURCE, x, variant), TARGET)
    np.testing.assert_allclose(gradients[0], of_source, rtol=1e-6)
    np.testing.assert_allclose(gradients[1], of_target, rtol=1e-6)
    np.testing.assert_allclose(found(at[0][:, None], at[1][:, None]), value, rtol=1e-12)
    weighted = losses.domain_adversarial(*at, *map(jnp.asarray, VALID), variant=variant)
    np.testing.assert_allclose(weighted, domain(SOURCE[VALID[0]], TARGET[VALID[1]], variant), rtol=1e-12)
    only = losses.domain_adversarial(*at, None, jnp.zeros(5))
    np.testing.assert_allclose(only, -np.log(expit(SOURCE)).mean(), rtol=1e-12)


def test_domain_cross_entropy_against_scikit_learn(x64: None) -> None:
    for is_source in (True, False):
        total, count = domain_cross_entropy(jnp.asarray(SOURCE), is_source, jnp.asarray(VALID[0]))
        expected = log_loss(np.full(5, is_source), expit(SOURCE[VALID[0]]), labels=[0, 1], normalize=False)
        np.testing.assert_allclose(total, expected, rtol=1e-12)
        assert count == 5


def test_certain_discriminators_have_finite_values_and_gradients() -> None:
    far = jnp.array([-300.0, 300.0])
    value, slope = jax.value_and_grad(losses.domain_adversarial)(far, far)
    assert value == 300 and np.isfinite(slope).all()


def multilinear(features: np.ndarray, logits: np.ndarray) -> np.ndarray:
    rows = [[p * x for p in softmax(z) for x in f] for f, z in zip(features, logits)]
    return np.array(rows)


def randomized(features: np.ndarray, logits: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    rows = []
    for f, z in zip(features, logits):
        p, d = softmax(z), left.shape[1]
        rows.append([sum(f * left[:, k]) * sum(p * right[:, k]) / np.sqrt(d) for k in range(d)])
    return np.array(rows)


@pytest.mark.parametrize("variant", ["paper", "tllib"])
@pytest.mark.parametrize("random", [False, True])
def test_cdan_map_and_its_gradient(x64: None, variant: str, random: bool) -> None:
    projections = (RANDOM.normal(size=(3, 8)), RANDOM.normal(size=(4, 8))) if random else ()
    weight = RANDOM.normal(size=(6, 8 if random else 12))
    given: Any = tuple(map(jnp.asarray, projections)) or None

    def reference(features: np.ndarray, logits: np.ndarray) -> np.ndarray:
        return randomized(features, logits, *projections) if random else multilinear(features, logits)

    def value(features: Any, logits: Any) -> Any:
        return jnp.sum(weight * losses.cdan_map(features, logits, given, variant=variant))

    at = jnp.asarray(FEATURES), jnp.asarray(LOGITS)
    found = losses.cdan_map(*at, given, variant=variant)
    np.testing.assert_allclose(found, reference(FEATURES, LOGITS), rtol=1e-12)
    of_features, of_logits = jax.grad(value, argnums=(0, 1))(*at)
    expected = gradient(lambda x: (weight * reference(x, LOGITS)).sum(), FEATURES)
    np.testing.assert_allclose(of_features, expected, rtol=1e-6, atol=1e-9)
    if variant == "paper":
        expected = gradient(lambda x: (weight * reference(FEATURES, x)).sum(), LOGITS)
        np.testing.assert_allclose(of_logits, expected, rtol=1e-6, atol=1e-9)
    else:
        assert not np.asarray(of_logits).any()


def test_the_randomized_map_keeps_inner_products(x64: None) -> None:
    """Its inner products are those of the outer products on average (CDAN, theorem 1)."""
    projections = losses.cdan_projections(jax.random.key(1), 3, 4, 200_000)
    assert projections[0].shape == (3, 200_000) and projections[1].shape == (4, 200_000)
    random = np.asarray(losses.cdan_map(jnp.asarray(FEATURES), jnp.asarray(LOGITS), projections))
    exact = multilinear(FEATURES, LOGITS)
    np.testing.assert_allclose(random @ random.T, exact @ exact.T, atol=0.02)


@pytest.mark.parametrize("variant", ["paper", "tllib", "pytorch_adapt"])
def test_entropy_weights(x64: None, variant: str) -> None:
    source, target = LOGITS[:4], LOGITS[3:]
    epsilon = 1e-5 if variant == "tllib" else 0

    def raw(logits: np.ndarray) -> np.ndarray:
        p = softmax(logits, axis=1)
        entropies = -(p * np.log(p + epsilon)).sum(1) if epsilon else stats.entropy(p, axis=1)
        return 1 + np.exp(-entropies)

    def reference(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        w, v = raw(source), raw(target)
        if variant == "tllib":
            scale = (len(w) + len(v)) / (w.sum() + v.sum())
            return w * scale, v * scale
        return (w, v) if variant == "paper" else (w / w.sum(), v / v.sum())

    found = losses.entropy_weights(jnp.asarray(source), jnp.asarray(target), variant=variant)
    for one, two in zip(found, reference(source, target)):
        np.testing.assert_allclose(one, two, rtol=1e-12)
    valid = jnp.array([1, 1, 0, 1]), jnp.array([0, 1, 1])
    masked = losses.entropy_weights(jnp.asarray(source), jnp.asarray(target), *valid, variant=variant)
    w, v = reference(source[[0, 1, 3]], target[1:])
    np.testing.assert_allclose(masked[0], [w[0], w[1], 0, w[2]], rtol=1e-12)
    np.testing.assert_allclose(masked[1], [0, *v], rtol=1e-12)
    weight = RANDOM.normal(size=4)
    slope = jax.grad(lambda x: weight @ losses.entropy_weights(x, jnp.asarray(target), variant=variant)[0])(
        jnp.asarray(source)
    )
    expected = gradient(lambda x: float(weight @ raw(x)), source) if variant == "paper" else np.zeros((4, 4))
    np.testing.assert_allclose(slope, expected, rtol=1e-6, atol=1e-9)
