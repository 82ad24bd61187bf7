"""MK-MMD and JMMD against loops over pairs of rows in NumPy, written from the papers' formulas."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.gaussian_process.kernels import RBF

import tlx
from tests.losses.finite import gradient
from tlx.errors import TlxError
from tlx.losses import jmmd, mk_mmd
from tlx.losses.rows import squared_distances

RANDOM = np.random.default_rng(4)
SOURCE, TARGET = RANDOM.normal(size=(7, 3)), RANDOM.normal(size=(6, 3)) * 1.5 + 0.7
LOGITS = RANDOM.normal(size=(7, 4)), RANDOM.normal(size=(6, 4))
FACTORS = [2.0 ** (k / 2) for k in range(-16, 17)]
VALID = np.array([1, 1, 0, 1, 1, 1, 1], bool), np.array([1, 1, 1, 1, 0, 1], bool)


def square(x: np.ndarray, y: np.ndarray) -> float:
    return sum((a - b) ** 2 for a, b in zip(x, y))


def bandwidth(source: np.ndarray, target: np.ndarray, rule: str) -> float:
    rows = [*source, *target]
    if rule == "median":
        return float(np.median([square(x, y) for x, y in itertools.combinations(rows, 2)]))
    if rule == "mean":
        return float(np.mean([square(x, y) for x in rows for y in rows]))
    squares = sorted(square(x, y) for x in source for y in source)
    return squares[(len(squares) - 1) // 2]


def estimate(kernel: Any, source: Any, target: Any, estimator: str) -> float:
    """The estimate for a function of two rows; the rows may be of any kind."""
    n, m = len(source), len(target)
    if estimator == "linear":
        pairs = min(n, m) // 2
        total = 0.0
        for i in range(pairs):
            a, b, c, d = source[2 * i], source[2 * i + 1], target[2 * i], target[2 * i + 1]
            total += kernel(a, b) + kernel(c, d) - kernel(a, d) - kernel(b, c)
        return total / pairs
    value = 0.0
    for i, j in itertools.product(range(n), range(n)):
        if estimator == "biased" or i != j:
            value += kernel(source[i], source[j]) / (n * n if estimator == "biased" else n * (n - 1))
    for i, j in itertools.product(range(m), range(m)):
        if estimator == "biased" or i != j:
            value += kernel(target[i], target[j]) / (m * m if estimator == "biased" else m * (m - 1))
    for i, j in itertools.product(range(n), range(m)):
        value -= 2 * kernel(source[i], target[j]) / (n * m)
    return value


def mixed(factors: list[float], gamma: float, summed: bool = False) -> Any:
    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        values = [np.exp(-square(x, y) / (factor * gamma)) for factor in factors]
        return float(np.sum(values) if summed else np.mean(values))

    return kernel


CASES = [  # variant, estimator asked for; factors, rule, summed, estimator
    ("paper", None, FACTORS, "median", False, "linear"),
    ("paper", "unbiased", FACTORS, "median", False, "unbiased"),
    ("paper", "biased", FACTORS, "median", False, "biased"),
    ("tllib", None, [2 * 2.0**k for k in range(-3, 2)], "mean", True, "unbiased"),
    ("pytorch_adapt", None, [1.0], "source_median", False, "linear"),
    ("pytorch_adapt", "unbiased", [1.0], "source_median", False, "unbiased"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{case[1]}")
def test_mk_mmd_and_its_gradient(x64: None, case: Any) -> None:
    """The bandwidth is a constant in differentiation, so the reference holds it where the differences are taken."""
    variant, asked, factors, rule, summed, estimator = case
    gamma = bandwidth(SOURCE, TARGET, rule)
    offset = 1 / 6 + 1 / 5 if variant == "tllib" else 0.0

    def reference(source: np.ndarray, target: np.ndarray) -> float:
        return estimate(mixed(factors, gamma, summed), source, target, estimator) + offset

    def found(source: Any, target: Any) -> Any:
        return mk_mmd(source, target, variant=variant, estimator=asked)

    np.testing.assert_allclose(found(SOURCE, TARGET), reference(SOURCE, TARGET), rtol=1e-10, atol=1e-13)
    gradients = jax.grad(found, argnums=(0, 1))(jnp.asarray(SOURCE), jnp.asarray(TARGET))
    np.testing.assert_allclose(gradients[0], gradient(lambda x: reference(x, TARGET), SOURCE), rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(gradients[1], gradient(lambda x: reference(SOURCE, x), TARGET), rtol=1e-6, atol=1e-8)


def test_mk_mmd_against_scikit_learn(x64: None) -> None:
    """One kernel of a given bandwidth, through scikit-learn's radial basis function: exp(−d² / (2 l²))."""
    kernel = RBF(np.sqrt(1.7 / 2))
    expected = kernel(SOURCE).mean() + kernel(TARGET).mean() - 2 * kernel(SOURCE, TARGET).mean()
    found = mk_mmd(
        jnp.asarray(SOURCE), jnp.asarray(TARGET), factors=[1.0], bandwidth=1.7, estimator="biased"
    )  # fmt: skip
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("variant", ["paper", "tllib", "pytorch_adapt"])
def test_jmmd_and_its_gradient(x64: None, variant: str) -> None:
    layers = (SOURCE, LOGITS[0]), (TARGET, LOGITS[1])
    rule = {"paper": "median", "tllib": "mean", "pytorch_adapt": "source_median"}[variant]
    gammas = [bandwidth(x, y, rule) for x, y in zip(*layers)]
    kernels = [mixed([1.0], gamma) for gamma in gammas]
    if variant == "tllib":
        kernels = [mixed([2 * 2.0**k for k in range(-3, 2)], gammas[0], summed=True), mixed([1.0], 2 * 0.92**2)]

    def reference(first: np.ndarray, second: np.ndarray) -> float:
        def joint(x: Any, y: Any) -> float:
            return float(np.prod([kernel(a, b) for kernel, a, b in zip(kernels, x, y)]))

        rows = list(zip(first, LOGITS[0])), list(zip(TARGET, second))
        value = estimate(joint, *rows, "unbiased" if variant == "tllib" else "linear")
        return value + (1 / 6 + 1 / 5 if variant == "tllib" else 0.0)

    def found(first: Any, second: Any) -> Any:
        return jmmd((first, LOGITS[0]), (TARGET, second), variant=variant)

    at = jnp.asarray(SOURCE), jnp.asarray(LOGITS[1])
    np.testing.assert_allclose(found(*at), reference(SOURCE, LOGITS[1]), rtol=1e-10, atol=1e-13)
    gradients = jax.grad(found, argnums=(0, 1))(*at)
    np.testing.assert_allclose(gradients[0], gradient(lambda x: reference(x, LOGITS[1]), SOURCE), rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(gradients[1], gradient(lambda x: reference(SOURCE, x), LOGITS[1]), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("variant", ["paper", "tllib", "pytorch_adapt"])
@pytest.mark.parametrize("estimator", ["unbiased", pytest.param("biased", marks=pytest.mark.long)])
def test_rows_of_padding_count_for_nothing(x64: None, variant: str, estimator: str) -> None:
    """Values and gradients are those of the rows that are left, whatever the others hold."""
    source, target = np.where(VALID[0][:, None], SOURCE, 1e3), np.where(VALID[1][:, None], TARGET, -1e3)

    def padded(x: Any, y: Any) -> Any:
        return mk_mmd(x, y, jnp.asarray(VALID[0]), jnp.asarray(VALID[1]), variant=variant, estimator=estimator)

    def alone(x: Any, y: Any) -> Any:
        return mk_mmd(x, y, variant=variant, estimator=estimator)

    value, gradients = jax.value_and_grad(padded, argnums=(0, 1))(jnp.asarray(source), jnp.asarray(target))
    rows = jnp.asarray(SOURCE[VALID[0]]), jnp.asarray(TARGET[VALID[1]])
    expected, of_rows = jax.value_and_grad(alone, argnums=(0, 1))(*rows)
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    for found, wanted, valid in zip(gradients, of_rows, VALID):
        np.testing.assert_allclose(found[valid], wanted, rtol=1e-10, atol=1e-14)
        assert not np.asarray(found)[~valid].any()


def test_a_pair_with_a_row_of_padding_leaves_the_linear_estimate(x64: None) -> None:
    """Of three pairs, the second has one in the source and the third one in the target."""
    found = mk_mmd(jnp.asarray(SOURCE), jnp.asarray(TARGET), *map(jnp.asarray, VALID), bandwidth=2.0)
    expected = estimate(mixed(FACTORS, 2.0), SOURCE[:2], TARGET[:2], "linear")
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("estimator", ["linear", "unbiased"])
@pytest.mark.long
def test_too_few_rows_give_0_and_no_gradient(estimator: str) -> None:
    one = jnp.array([1.0, 0, 0, 0, 0, 0, 0])
    value, slope = jax.value_and_grad(mk_mmd)(jnp.asarray(SOURCE), jnp.asarray(TARGET), one, estimator=estimator)
    assert value == 0 and not np.asarray(slope).any()
    assert mk_mmd(jnp.asarray(SOURCE), jnp.asarray(TARGET), jnp.zeros(7), estimator=estimator) == 0


def test_properties(x64: None) -> None:
    x, y = jnp.asarray(SOURCE), jnp.asarray(TARGET)
    order, other = RANDOM.permutation(7), RANDOM.permutation(6)
    for estimator in ("biased", "unbiased"):
        value = mk_mmd(x, y, estimator=estimator)
        np.testing.assert_allclose(mk_mmd(x[order], y[other], estimator=estimator), value, rtol=1e-10)
        np.testing.assert_allclose(mk_mmd(y, x, estimator=estimator), value, rtol=1e-10)
        np.testing.assert_allclose(mk_mmd(3 * x + 5, 3 * y + 5, estimator=estimator), value, rtol=1e-9)
    np.testing.assert_allclose(mk_mmd(x, x[order], estimator="biased"), 0, atol=1e-12)
    assert mk_mmd(x, y, estimator="biased") > 0.01
    np.testing.assert_allclose(mk_mmd(x[:6], y), mk_mmd(y, x[:6]), rtol=1e-12)  # the linear-time estimate
    assert mk_mmd(x, x + 10) > mk_mmd(x, x + 1)


def test_the_linear_estimate_is_unbiased(x64: None) -> None:
    """Over all orders of four rows its mean is the unbiased estimate of the same rows."""
    x, y = SOURCE[:4], TARGET[:4]
    orders = [list(order) for order in itertools.permutations(range(4))]
    linear = jax.jit(lambda x, y: mk_mmd(x, y, bandwidth=2.0))
    values = [linear(x[a], y[b]) for a in orders for b in orders]
    expected = mk_mmd(jnp.asarray(x), jnp.asarray(y), bandwidth=2.0, estimator="unbiased")
    np.testing.assert_allclose(np.mean(values), expected, rtol=1e-10)


@pytest.mark.parametrize("apart", [0.05, 100.0])
@pytest.mark.parametrize("variant", ["paper", "pytorch_adapt"])
@pytest.mark.long
def test_float32_keeps_its_digits_far_from_the_origin(variant: str, apart: float) -> None:
    """Clusters of spread 0.1, 1,000 away from the origin: ‖x‖² + ‖y‖² − 2 x·y is off by whole units there.

    If the clusters are far from each other too, the distances within the source still decide its bandwidth.
    """
    x = (1000 + 0.1 * RANDOM.normal(size=(40, 16))).astype(np.float32)
    y = (1000 + 0.1 * RANDOM.normal(size=(40, 16)) + apart).astype(np.float32)
    exact = cdist(x.astype(float), x.astype(float), "sqeuclidean")
    expanded = (x**2).sum(1)[:, None] + (x**2).sum(1) - 2 * x @ x.T
    assert np.abs(expanded - exact).max() > 0.5
    for estimator in ("unbiased", "linear"):

        def value(x: Any, y: Any, estimator: str = estimator) -> Any:
            return mk_mmd(x, y, variant=variant, estimator=estimator)

        found, slope = jax.value_and_grad(value)(jnp.asarray(x), jnp.asarray(y))
        with jax.enable_x64(True):
            wide = jnp.asarray(x, jnp.float64), jnp.asarray(y, jnp.float64)
            expected, exact_slope = jax.value_and_grad(value)(*wide)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(slope, exact_slope, atol=1e-4 * np.abs(exact_slope).max())


@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_squared_distances_in_float32(offset: float) -> None:
    """Errors are below a millionth of the largest distance, around any point; SciPy's are taken in float64."""
    x = (offset + RANDOM.normal(size=(30, 64))).astype(np.float32)
    y = (offset + RANDOM.normal(size=(20, 64))).astype(np.float32)
    x[0], weight = 1e6, np.arange(30) > 0  # a row of padding
    found = squared_distances(*map(jnp.asarray, (x, y, weight.astype(np.float32), np.ones(20, np.float32))))
    expected = cdist(x.astype(float), y.astype(float), "sqeuclidean")
    np.testing.assert_allclose(found[1:], expected[1:], atol=1e-6 * expected[1:].max())


def test_bfloat16_is_computed_in_float32() -> None:
    x, y = jnp.asarray(SOURCE, jnp.bfloat16), jnp.asarray(TARGET, jnp.bfloat16)
    assert mk_mmd(x, y).dtype == jnp.float32
    np.testing.assert_array_equal(mk_mmd(x, y), mk_mmd(x.astype(jnp.float32), y.astype(jnp.float32)))


def test_names_that_do_not_exist_are_refused() -> None:
    x = jnp.asarray(SOURCE)
    with pytest.raises(TlxError, match="mk_mmd has no variant 'own'"):
        tlx.losses.mk_mmd(x, x, variant="own")
    with pytest.raises(TlxError, match="no estimator 'exact'"):
        mk_mmd(x, x, estimator="exact")
    with pytest.raises(TlxError, match="1 layers of the source and 2"):
        jmmd((x,), (x, x))
