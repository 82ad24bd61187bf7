"""Weightings of losses in float64, against NumPy and finite differences."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tlx.errors import TlxError
from tlx.methods import multitask

random = np.random.default_rng(3)
TASKS = 4
LOSSES, BEFORE, AFTER = random.uniform(0.2, 3.0, (3, TASKS))
LOGITS = random.normal(size=TASKS)


def softmax(x: Any) -> Any:
    return np.exp(x) / np.exp(x).sum()


def slope(function: Any, at: np.ndarray, step: float = 1e-6) -> np.ndarray:
    """The gradient by central differences."""
    moves = step * np.eye(len(at))
    return np.array([(function(at + move) - function(at - move)) / (2 * step) for move in moves])


def test_uncertainty(x64: None) -> None:
    """Kendall et al. with σ itself, as the paper has it; and the variance of least loss is L, or 2 L."""
    s = jnp.asarray(LOGITS)
    deviation = np.exp(LOGITS / 2)
    kinds = np.array([True, False, False, True])
    expected = LOSSES / (np.where(kinds, 1, 2) * deviation**2) + np.log(deviation)
    np.testing.assert_allclose(multitask.uncertainty(LOSSES, s, kinds), expected)
    half = LOSSES / (2 * deviation**2) + np.log(deviation)
    np.testing.assert_allclose(multitask.uncertainty(LOSSES, s), half)
    np.testing.assert_allclose(multitask.uncertainty(LOSSES, s, kinds, variant="half"), half)
    positive = LOSSES / (2 * deviation**2) + np.log(1 + deviation**2)
    np.testing.assert_allclose(multitask.uncertainty(LOSSES, s, kinds, variant="log1p"), positive)
    best = np.log(np.where(kinds, 2, 1) * LOSSES)
    flat = jax.grad(lambda s: multitask.uncertainty(LOSSES, s, kinds).sum())(jnp.asarray(best))
    np.testing.assert_allclose(flat, 0, atol=1e-12)


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_dwa(x64: None, temperature: float) -> None:
    ratios = np.exp(LOSSES / BEFORE / temperature)
    found = multitask.dwa(jnp.asarray(LOSSES), jnp.asarray(BEFORE), temperature=temperature)
    np.testing.assert_allclose(found, TASKS * ratios / ratios.sum())


@pytest.mark.parametrize("distribution", ["normal", "uniform", "one"])
def test_rlw_draws_from_its_distribution(distribution: str) -> None:
    """Against as many draws of NumPy's: the quantiles of the first weight."""
    draws = 20_000
    keys = jax.random.split(jax.random.key(0), draws)
    found = np.asarray(jax.vmap(lambda key: multitask.rlw(key, 3, distribution=distribution))(keys))
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
    if distribution == "one":
        counts = found.sum(axis=0)
        assert set(np.unique(found)) == {0.0, 1.0}
        assert np.abs(counts - draws / 3).max() < 5 * np.sqrt(draws)
        return
    numbers = random.normal(size=(draws, 3)) if distribution == "normal" else random.uniform(size=(draws, 3))
    expected = np.apply_along_axis(softmax, 1, numbers)
    at = np.linspace(0.05, 0.95, 19)
    np.testing.assert_allclose(np.quantile(found, at, axis=0), np.quantile(expected, at, axis=0), atol=0.02)


@pytest.mark.parametrize("variant", ["paper", "softmax"])
def test_gradnorm(x64: None, variant: str) -> None:
    """Three steps, the slope of the paper's eq. 2 by finite differences; its mean norm and rates are constants."""
    gradients = random.normal(size=(3, TASKS, 7))
    initial, alpha, rate = BEFORE, 0.7, 0.05
    parameters = np.ones(TASKS) if variant == "paper" else LOGITS.copy()
    ours = jnp.asarray(parameters)
    for step, gradient in enumerate(gradients):
        losses = LOSSES / (1 + step)

        def weights_of(p: np.ndarray) -> np.ndarray:
            return p if variant == "paper" else TASKS * softmax(p)

        norms = np.linalg.norm(gradient, axis=1)
        ratios = losses / initial
        target = (weights_of(parameters) * norms).mean() * (ratios / ratios.mean()) ** alpha
        used = weights_of(parameters)
        parameters = parameters - rate * slope(
            lambda p, n=norms, t=target, w=weights_of: np.abs(w(p) * n - t).sum(), parameters
        )
        if variant == "paper":
            parameters = parameters * TASKS / parameters.sum()
        weights, ours = multitask.gradnorm(
            jnp.asarray(gradient), losses, initial, ours, alpha=alpha, rate=rate, variant=variant
        )
        np.testing.assert_allclose(weights, used, rtol=1e-8)
        np.testing.assert_allclose(ours, parameters, rtol=1e-8)
        assert weights.sum() == pytest.approx(TASKS)
    again = multitask.gradnorm(jnp.asarray(norms), losses, initial, ours, variant=variant)
    whole = multitask.gradnorm(jnp.asarray(gradient), losses, initial, ours, variant=variant)
    np.testing.assert_allclose(again[1], whole[1])


@pytest.mark.long
def test_gradnorm_brings_the_norms_together(x64: None) -> None:
    """With rates of 1 the weighted norms end up equal."""
    norms = jnp.array([1.0, 10.0, 3.0])
    weights = jnp.ones(3)
    for _ in range(2000):
        _, weights = multitask.gradnorm(norms, jnp.ones(3), jnp.ones(3), weights, rate=2e-4)
    np.testing.assert_allclose(weights * norms, (weights * norms).mean(), rtol=0.02)


def test_gradnorm_weights_stay_positive(x64: None) -> None:
    """At the default rate a step is longer than the weight of a task with a large gradient."""
    weights = jnp.ones(3)
    for _ in range(100):
        _, weights = multitask.gradnorm(jnp.array([1.0, 10.0, 3.0]), jnp.ones(3), jnp.ones(3), weights)
        assert (weights > 0).all() and weights.sum() == pytest.approx(3)


def test_gradnorm_does_not_move_for_a_task_alone(x64: None) -> None:
    """Its weighted norm is the mean, and the slope of the distance 0 is 0."""
    present = jnp.array([False, True, False])
    _, weights = multitask.gradnorm(jnp.full(3, 2.0), jnp.ones(3), jnp.ones(3), jnp.ones(3), present=present)
    np.testing.assert_array_equal(weights, np.ones(3))


@pytest.mark.parametrize("lower", [0.0, 0.15])
def test_famo(x64: None, lower: float) -> None:
    """The weights by their formula; the logits by the slope of Σ z_i (log L_i(t) − log L_i(t + 1))."""
    weights = multitask.famo(LOSSES, jnp.asarray(LOGITS), lower=lower)
    expected = softmax(LOGITS) / (LOSSES - lower)
    np.testing.assert_allclose(weights, expected / expected.sum())
    change = np.log(LOSSES - lower) - np.log(AFTER - lower)
    moved = multitask.famo_logits(jnp.asarray(LOGITS), LOSSES, AFTER, lower=lower, rate=0.1, decay=0.01)
    delta = slope(lambda logits: softmax(logits) @ change, LOGITS)
    np.testing.assert_allclose(moved, LOGITS - 0.1 * (delta + 0.01 * LOGITS), rtol=1e-8)


def test_famo_favours_the_task_that_improves_least(x64: None) -> None:
    moved = multitask.famo_logits(jnp.zeros(2), np.array([1.0, 1.0]), np.array([0.5, 0.9]))
    assert moved[1] > 0 > moved[0]


def test_unknown_forms_are_refused() -> None:
    with pytest.raises(TlxError, match="paper, half, log1p"):
        multitask.uncertainty(jnp.ones(2), jnp.zeros(2), variant="full")
    with pytest.raises(TlxError, match="rlw"):
        multitask.rlw(jax.random.key(0), 2, distribution="cauchy")
    with pytest.raises(TlxError, match="gradnorm"):
        multitask.gradnorm(jnp.ones(2), jnp.ones(2), jnp.ones(2), jnp.ones(2), variant="sum")
