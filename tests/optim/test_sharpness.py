"""SAM on a quadratic in closed form, and beside `optax.contrib.sam`."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import contrib

from tlx.errors import TlxError
from tlx.optim.sharpness import sharpness_aware

CURVATURE = {"a": np.array([1.0, 4.0]), "b": np.array([[0.5]]), "frozen": None}
START = {"a": np.array([1.0, -2.0]), "b": np.array([[3.0]]), "frozen": None}


def gradient(params: Any) -> Any:
    """Of ½ Σ cᵢ wᵢ²."""
    return jax.tree.map(lambda w, c: c * w, params, CURVATURE)


@pytest.mark.parametrize("adaptive", [False, True])
def test_the_point_in_closed_form(adaptive: bool, x64: None) -> None:
    w, c = np.array([1.0, -2.0, 3.0]), np.array([1.0, 4.0, 0.5])
    g = c * w
    step = w**2 * g / np.linalg.norm(np.abs(w) * g) if adaptive else g / np.linalg.norm(g)
    params = jax.tree.map(jnp.asarray, START)
    found = sharpness_aware(0.3, adaptive)(params, gradient(params))
    assert found["frozen"] is None
    np.testing.assert_allclose(np.concatenate([found["a"], found["b"].ravel()]), w + 0.3 * step, rtol=1e-12)


def test_steps_are_those_of_optax(x64: None) -> None:
    mine = theirs = jax.tree.map(jnp.asarray, START)
    descent, ascend = optax.adam(0.1), sharpness_aware(0.3)
    reference = contrib.sam(descent, optax.chain(contrib.normalize(), optax.sgd(0.3)), opaque_mode=True)
    state, their_state = descent.init(mine), reference.init(theirs)
    for _ in range(5):
        updates, state = descent.update(gradient(ascend(mine, gradient(mine))), state, mine)
        mine = optax.apply_updates(mine, updates)
        updates, their_state = reference.update(
            gradient(theirs), their_state, theirs, grad_fn=lambda params, _: gradient(params)
        )
        theirs = optax.apply_updates(theirs, updates)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9), mine, theirs)


@pytest.mark.parametrize("adaptive", [False, True])
def test_a_gradient_of_zero_stays(adaptive: bool) -> None:
    params = {"w": jnp.ones(3)}
    assert np.array_equal(sharpness_aware(0.1, adaptive)(params, {"w": jnp.zeros(3)})["w"], params["w"])


def test_refused() -> None:
    with pytest.raises(TlxError, match="radius is 0; it must be above 0"):
        sharpness_aware(0)
