"""Gradient methods in float64 against SciPy, NumPy, closed forms and the conditions of Karush, Kuhn and Tucker."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from tlx.errors import TlxError
from tlx.methods import multitask
from tlx.methods.multitask.gradients import pcgrad_orders

random = np.random.default_rng(7)
OPPOSED = np.array([[1.0, 0.0, 0.2], [-0.9, 0.3, 0.0], [-0.5, -0.8, 0.1]])
MATRICES = {
    "two tasks": random.normal(size=(2, 5)),
    "three tasks": random.normal(size=(3, 8)),
    "opposed": OPPOSED,
    "ten tasks": random.normal(size=(10, 40)) + 0.3,
    "forty tasks": random.normal(size=(40, 60)) + 0.1 * random.normal(size=60),
    "of other lengths": random.normal(size=(5, 9)) * 10.0 ** np.array([[-3.0], [2], [0], [1], [-1]]),
    "tiny": 1e-9 * random.normal(size=(3, 8)),
    "agreeing": np.abs(random.normal(size=(4, 20))),
    "one is best": np.array([[1.0, 0.0], [2.0, 1.0]]),
}
DEPENDENT = {
    "twice the same": np.array([[1.0, 2, 0], [1, 2, 0], [-1, 1, 1]]),
    "more tasks than parameters": random.normal(size=(6, 3)) + 1,
}
ALL = {**MATRICES, **DEPENDENT}
QUICK = ("two tasks", "opposed", "of other lengths", "twice the same")
by_name = pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.long) for name in ALL]
)


def solved(function: Callable[..., Any], gradients: np.ndarray, **options: Any) -> tuple[np.ndarray, np.ndarray]:
    """The combined gradient and the weights, compiled."""
    result = jax.jit(lambda g: function(g, **options))(jnp.asarray(gradients))
    assert result.gradient.dtype == np.float64
    np.testing.assert_allclose(result.gradient, np.asarray(result.weights) @ gradients, rtol=1e-9, atol=1e-18)
    return np.asarray(result.gradient), np.asarray(result.weights)


def kkt_residual(weights: np.ndarray, gradient: np.ndarray) -> float:
    """Of a minimum over the simplex: no weight is negative, they sum to 1, and only least slopes have a weight."""
    slack = gradient - gradient.min()
    return max(abs(weights.sum() - 1), -weights.min(), np.minimum(weights, slack).max())


def on_simplex(
    objective: Callable[[np.ndarray], float], gradient: Callable[[np.ndarray], np.ndarray], size: int
) -> Any:
    start = np.full(size, 1 / size)
    equal: Any = {"type": "eq", "fun": lambda w: w.sum() - 1, "jac": lambda w: np.ones(size)}
    return minimize(
        objective, start, jac=gradient, bounds=[(0, 1)] * size, constraints=equal, method="SLSQP",
        options={"ftol": 1e-15, "maxiter": 1000},
    )  # fmt: skip


@by_name
def test_mgda_is_the_point_of_least_norm(x64: None, name: str) -> None:
    gradients = ALL[name]
    scale = (gradients**2).sum(axis=1).max()
    gram = gradients @ gradients.T / scale
    combined, weights = solved(multitask.mgda, gradients)
    assert kkt_residual(weights, gram @ weights) <= 1e-6
    found = on_simplex(lambda w: w @ gram @ w / 2, lambda w: gram @ w, len(gram))
    assert combined @ combined / scale <= 2 * found.fun + 1e-9
    if len(gradients) == 2:  # Sener & Koltun 2018, eq. 5
        a, b = gradients
        share = np.clip((b - a) @ b / ((a - b) @ (a - b)), 0, 1)
        np.testing.assert_allclose(weights, [share, 1 - share], atol=1e-6)


@by_name
@pytest.mark.parametrize("c", [0.0, 0.4, 0.9])
def test_cagrad_has_the_largest_least_improvement_near_the_mean(x64: None, name: str, c: float) -> None:
    gradients = ALL[name]
    length = np.sqrt((gradients**2).sum(axis=1).max())
    g, mean = gradients / length, gradients.mean(axis=0) / length
    combined, weights = solved(multitask.cagrad, gradients, c=c)
    combined = combined / length
    radius = c * np.linalg.norm(mean)
    assert np.linalg.norm(combined - mean) == pytest.approx(radius, rel=1e-9, abs=1e-15)
    dual = on_simplex(
        lambda w: (w @ g) @ mean + radius * np.sqrt((w @ g) @ (w @ g)),
        lambda w: g @ mean + radius * g @ (w @ g) / np.sqrt((w @ g) @ (w @ g)),
        len(g),
    )
    # the least improvement, which SciPy's dual bounds from above (weak duality)
    assert (g @ combined).min() >= dual.fun - 1e-6
    if c:
        w = (weights - 1 / len(g)) / (weights - 1 / len(g)).sum()
        slope = g @ mean + radius * g @ (w @ g) / np.linalg.norm(w @ g)
        assert kkt_residual(w, slope) <= 1e-6
    else:
        np.testing.assert_allclose(weights, 1 / len(g), rtol=1e-12)


def test_cagrad_of_other_forms_is_divided(x64: None) -> None:
    plain = solved(multitask.cagrad, OPPOSED, c=0.4)[0]
    np.testing.assert_allclose(solved(multitask.cagrad, OPPOSED, c=0.4, rescale="1 + c")[0], plain / 1.4)
    np.testing.assert_allclose(solved(multitask.cagrad, OPPOSED, c=0.4, rescale="1 + c^2")[0], plain / 1.16)


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.long) for name in MATRICES]
)
def test_nash_mtl_solves_the_bargaining_equation(x64: None, name: str) -> None:
    gradients = MATRICES[name]
    norms = np.linalg.norm(gradients, axis=1)
    combined, weights = solved(multitask.nash_mtl, gradients)
    assert weights.min() > 0
    np.testing.assert_allclose(weights * (gradients @ combined), 1, atol=1e-6)
    assert np.linalg.norm(combined) == pytest.approx(np.sqrt(len(gradients)), rel=1e-6)
    if len(gradients) == 2:  # the second of the two equations in the first: a quadratic one in the square of α_1 ‖g_1‖
        cosine = gradients[0] @ gradients[1] / norms.prod()
        np.testing.assert_allclose(weights * norms, 1 / np.sqrt(1 + cosine), rtol=1e-9)
    gram = gradients @ gradients.T
    factor = np.sqrt(np.linalg.norm(gram))
    other, its = solved(multitask.nash_mtl, gradients, scale="gram_norm", max_norm=1.0)
    np.testing.assert_allclose(its, weights * factor * min(1, 1 / (factor * np.linalg.norm(combined))), rtol=1e-6)
    assert np.linalg.norm(other) <= 1 + 1e-9


@pytest.mark.parametrize("name", [name for name in MATRICES if name != "one is best"])
def test_imtl_g_projects_equally(x64: None, name: str) -> None:
    """The paper's closed form, section 3.1, in NumPy."""
    gradients = MATRICES[name]
    combined, weights = solved(multitask.imtl_g, gradients)
    unit = gradients / np.linalg.norm(gradients, axis=1, keepdims=True)
    d, u = gradients[0] - gradients[1:], unit[0] - unit[1:]
    expected = gradients[0] @ u.T @ np.linalg.inv(d @ u.T)
    np.testing.assert_allclose(weights, [1 - expected.sum(), *expected], rtol=1e-6, atol=1e-9)
    assert np.ptp(unit @ combined) <= 1e-9 * np.linalg.norm(gradients, axis=1).max()


@by_name
@pytest.mark.parametrize("scale", ["min", "median", "rmse"])
def test_aligned_mtl_has_equal_singular_values(x64: None, name: str, scale: str) -> None:
    gradients = ALL[name]
    combined, _ = solved(multitask.aligned_mtl, gradients, scale=scale)
    left, values, right = np.linalg.svd(gradients, full_matrices=False)
    kept = values > 1e-7 * values.max()
    left, values, right = left[:, kept], values[kept], right[kept]
    level = {
        "min": values.min(), "median": np.sort(values)[(len(values) - 1) // 2], "rmse": np.sqrt((values**2).mean()),
    }[scale]  # fmt: skip
    np.testing.assert_allclose(combined, level * (left @ right).sum(axis=0), rtol=1e-5, atol=1e-5 * level)
    weighted, _ = solved(multitask.aligned_mtl, gradients, scale=scale, weights=jnp.arange(len(gradients)))
    expected = level * np.arange(len(gradients)) @ left @ right
    np.testing.assert_allclose(weighted, expected, rtol=1e-5, atol=1e-5 * level * len(gradients))


@by_name
@pytest.mark.parametrize("itself", [False, True])
@pytest.mark.parametrize("seed", [None, 0, 1])
def test_pcgrad_is_the_loop_of_the_paper(x64: None, name: str, itself: bool, seed: int | None) -> None:
    gradients = ALL[name]
    tasks = len(gradients)
    key = None if seed is None else jax.random.key(seed)
    changed = gradients.copy()
    for task, order in enumerate(np.asarray(pcgrad_orders(key, tasks))):
        assert sorted(order) == list(range(tasks))
        for other in order:
            inner = changed[task] @ gradients[other]
            if inner < 0 and (itself or other != task):
                changed[task] -= inner / (gradients[other] @ gradients[other]) * gradients[other]
    options: dict[str, Any] = {"key": key, "meets_itself": itself}
    atol = 1e-9 * np.abs(gradients).max()
    np.testing.assert_allclose(solved(multitask.pcgrad, gradients, **options)[0], changed.sum(axis=0), atol=atol)
    mean, _ = solved(multitask.pcgrad, gradients, reduction="mean", **options)
    np.testing.assert_allclose(mean, changed.mean(axis=0), atol=atol)


def test_pcgrad_draws_every_order() -> None:
    orders = np.concatenate([pcgrad_orders(jax.random.key(seed), 3) for seed in range(100)])
    assert len(np.unique(orders, axis=0)) == 6


METHODS = {
    "pcgrad": multitask.pcgrad,
    "pcgrad, mean": lambda g, present: multitask.pcgrad(g, reduction="mean", present=present),
    "mgda": multitask.mgda, "cagrad": multitask.cagrad, "imtl_g": multitask.imtl_g, "nash_mtl": multitask.nash_mtl,
    "nash_mtl, gram_norm": lambda g, present: multitask.nash_mtl(g, scale="gram_norm", present=present),
    "aligned_mtl": multitask.aligned_mtl,
}  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_a_task_that_takes_no_part_is_as_if_it_were_not_there(x64: None, method: str) -> None:
    gradients = MATRICES["three tasks"]
    wider = np.stack([gradients[0], np.zeros(8), gradients[1], gradients[2], np.full(8, 3.0)])
    present = jnp.array([True, False, True, True, False])
    found, weights = solved(METHODS[method], wider, present=present)
    expected, its = solved(METHODS[method], gradients, present=None)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(weights[np.array([0, 2, 3])], its, atol=1e-6)
    assert weights[1] == weights[4] == 0


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "gradients",
    [np.zeros((3, 4)), np.array([[1.0, 0], [-1, 0]]), np.array([[0.0, 0], [1, 2]]), 1e-20 * OPPOSED, 1e15 * OPPOSED],
    ids=["zero", "opposite", "one is zero", "tiny", "huge"],
)
def test_results_are_finite_in_float32(method: str, gradients: np.ndarray) -> None:
    found = METHODS[method](jnp.asarray(gradients, jnp.float32), present=None)
    assert np.isfinite(found.gradient).all() and np.isfinite(found.weights).all()


@pytest.mark.long
@pytest.mark.parametrize("name", ["three tasks", "opposed", "ten tasks", "agreeing"])
def test_float32_is_near_float64(x64: None, name: str) -> None:
    gradients = MATRICES[name]
    for method in METHODS.values():
        wide, narrow = (method(jnp.asarray(gradients, dtype), present=None) for dtype in (jnp.float64, jnp.float32))
        assert narrow.gradient.dtype == jnp.float32
        np.testing.assert_allclose(narrow.gradient, wide.gradient, atol=2e-3 * np.abs(wide.gradient).max())


def test_unknown_forms_are_refused() -> None:
    gradients = jnp.asarray(OPPOSED)
    with pytest.raises(TlxError, match="no variant 'product'"):
        multitask.pcgrad(gradients, reduction="product")
    with pytest.raises(TlxError, match="it has none, 1 \\+ c"):
        multitask.cagrad(gradients, rescale="2")
    with pytest.raises(TlxError, match="at least 0"):
        multitask.cagrad(gradients, c=-1.0)
    with pytest.raises(TlxError, match="aligned_mtl"):
        multitask.aligned_mtl(gradients, scale="max")
    with pytest.raises(TlxError, match="nash_mtl"):
        multitask.nash_mtl(gradients, scale="none")
