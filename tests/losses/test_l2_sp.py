"""L2-SP: the paper's formula in NumPy, its gradient in closed form and by finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tlx.errors import TlxError
from tlx.losses.l2_sp import l2_sp

random = np.random.default_rng(0)
PARAMS = {"backbone": {"a": random.standard_normal((2, 3)), "frozen": None}, "head": random.standard_normal(4)}
ANCHORS = {"backbone": {"a": random.standard_normal((2, 3)), "frozen": None}, "head": None}


def test_the_formula_and_its_gradient(x64: None) -> None:
    alpha, beta = 0.3, 0.7
    a, a0, head = PARAMS["backbone"]["a"], ANCHORS["backbone"]["a"], PARAMS["head"]
    value, gradient = jax.value_and_grad(l2_sp)(PARAMS, ANCHORS, alpha, beta)
    assert value == pytest.approx(alpha / 2 * ((a - a0) ** 2).sum() + beta / 2 * (head**2).sum(), rel=1e-12)
    np.testing.assert_allclose(gradient["backbone"]["a"], alpha * (a - a0), rtol=1e-12)
    np.testing.assert_allclose(gradient["head"], beta * head, rtol=1e-12)
    assert gradient["backbone"]["frozen"] is None
    moved = jax.tree.map(jnp.asarray, PARAMS)
    sides = [l2_sp({**moved, "head": moved["head"].at[1].add(sign * 1e-5)}, ANCHORS, alpha, beta) for sign in (1, -1)]
    assert (sides[0] - sides[1]) / 2e-5 == pytest.approx(float(gradient["head"][1]), rel=1e-6)


def test_refused() -> None:
    with pytest.raises(TlxError, match=r"alpha and beta are -1 and 0; they are at least 0"):
        l2_sp({}, {}, -1, 0)
