"""The problem of the CAGrad and Nash-MTL papers in JAX and by hand."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks" / "multitask_toy"))

import by_hand
import problem


def test_losses_and_slopes_are_the_same(x64: None) -> None:
    """At random points, at the starts, and the slopes also against differences."""
    points = np.concatenate([np.random.default_rng(0).uniform(-11, 11, (200, 2)), problem.STARTS])
    values, slopes = jax.vmap(problem.losses)(points), jax.vmap(jax.jacobian(problem.losses))(points)
    for x, value, slope in zip(points, values, slopes, strict=True):
        found, its = by_hand.losses_and_slopes(x)
        np.testing.assert_allclose(found, value, rtol=1e-10)
        np.testing.assert_allclose(its, slope, rtol=1e-8, atol=1e-12)
        if x[1]:  # there is a kink at 0
            ahead, behind = (
                np.stack([by_hand.losses_and_slopes(x + move)[0] for move in step * np.eye(2)], axis=1)
                for step in (1e-6, -1e-6)
            )
            np.testing.assert_allclose(its, (ahead - behind) / 2e-6, rtol=1e-4, atol=1e-6)


def test_the_pareto_front_is_not_dominated() -> None:
    """No random point has both losses lower than a point of the front, and a weighted sum is least on it."""
    places, front = by_hand.pareto_front(201)
    points = np.random.default_rng(1).uniform((-8, -9), (8, -7.5), (20_000, 2))
    values = np.asarray(jax.vmap(problem.losses)(jnp.asarray(points)))
    for value in front[::20]:
        assert not (values < value - 1e-4).all(axis=1).any()
    for a, value in zip(places[::20, 0], front[::20], strict=True):
        share = (a / 7 + 1) / 2
        weights = np.array([share / by_hand.SCALE, 1 - share])
        assert (values @ weights).min() >= value @ weights - 1e-4
    assert by_hand.distance(places[3], front) == pytest.approx(0, abs=1e-12)
    assert by_hand.distance(np.array([0.0, -2.0]), front) > 0.5


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "CAGrad" else pytest.mark.long) for name in problem.METHODS]
)
def test_trajectories_are_the_papers_formulas(name: str, x64: None) -> None:
    """From the starts, and again from the middle."""
    found = {field: np.asarray(values) for field, values in problem.trajectories(name, 200, 100).items()}
    for index, start in enumerate(problem.STARTS):
        first, _, last = found["x"][index]
        # from (0, 0) the gradients are parallel, so that rounding decides what is small beside them
        atol = 1e-3 if start == (0, 0) else 1e-6
        np.testing.assert_allclose(last, by_hand.end(name, start, 200), atol=atol)
        point = by_hand.Point(*(found[field][index, 1] for field in ("x", "m", "v", "logits")), 100)
        np.testing.assert_allclose(last, by_hand.pieces(name, [point], 100)[0], atol=atol)
        assert np.linalg.norm(last - first) > 0.05
