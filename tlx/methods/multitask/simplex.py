"""The minimum of bᵀ w + r √(wᵀ M w) over the simplex {w ≥ 0, Σ w = 1}, on the device, in a fixed number of iterations.

MGDA (b = 0) and CAGrad minimize such functions. Where the root is near 0 they are not smooth. A barrier method follows
the minima of τ times the function with the barriers −log(t² − wᵀ M w) of the cone √(wᵀ M w) ≤ t and −Σ log w while τ
grows; t is eliminated (Boyd & Vandenberghe 2004, "Convex Optimization", sections 11.2 and 11.5). A few Newton steps on
the weights that are not 0 then make the solution exact. Each iteration solves one linear system of as many equations as
there are tasks.
"""

import jax
import jax.numpy as jnp

GROWTH = 4.0  # of τ
CENTERINGS = 3  # Newton steps at each τ
POLISHINGS = 5
NEAR = 0.1  # Newton decrement below which full steps converge
LENGTHS = (2.0, 1.0, 0.5, 0.25, 0.125)  # of a step; 1 / (1 + decrement) is tried too, and always lessens the function


def minimize_on_simplex(matrix: jax.Array, linear: jax.Array, radius: jax.Array, present: jax.Array) -> jax.Array:
    """Returns the weights that minimize linear · w + radius √(wᵀ matrix w).

    Args:
      matrix: (tasks, tasks), positive semidefinite, with entries of at most about 1.
      linear: (tasks,).
      radius: (), at least 0.
      present: (tasks,), 1, or 0 for a weight that stays 0.

    Returns:
      (tasks,). In float64 the conditions of Karush, Kuhn and Tucker hold to 1e-6 or better.
    """
    double = matrix.dtype == jnp.float64
    last, smallest = (1e12, 1e-9) if double else (1e5, 1e-5)  # of τ, and of what smooths the root
    # a weight that stays 0 has no slope, and a barrier of its own; the others do not notice
    matrix = matrix * jnp.outer(present, present)
    linear = linear * present
    outer = 0
    while GROWTH**outer < last:
        outer += 1

    def smoothed(weights: jax.Array, tau: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """What smooths the root, the smoothed root, and t."""
        amount = jnp.maximum(1 / (tau * jnp.maximum(radius, 1e-30)), smallest)
        root = jnp.sqrt(amount**2 + jnp.maximum(weights @ matrix @ weights, 0))
        return amount, root, amount + root

    def value(weights: jax.Array, tau: jax.Array) -> jax.Array:
        amount, _, t = smoothed(weights, tau)
        inside = jnp.all(weights > 0)
        logs = jnp.log(jnp.where(weights > 0, weights, 1)).sum() + jnp.log(amount * t)
        return jnp.where(inside, tau * (linear @ weights + radius * t) - logs, jnp.inf)

    def center(weights: jax.Array, tau: jax.Array) -> jax.Array:
        """A Newton step, in the variables w_new / w."""
        product = matrix @ weights
        _, root, t = smoothed(weights, tau)
        gradient = weights * tau * (linear + radius * product / t) - 1
        hessian = tau * radius * (matrix / t - jnp.outer(product, product) / (t**2 * root))
        system = weights[:, None] * hessian * weights + jnp.eye(len(weights), dtype=weights.dtype)
        own = weights * present
        first, second = jnp.linalg.solve(system, jnp.stack([-gradient, own], axis=1)).T
        direction = (first - (own @ first) / (own @ second) * second) * present
        decrement = jnp.sqrt(jnp.maximum(-gradient @ direction, 0))
        lengths = jnp.append(jnp.asarray(LENGTHS, weights.dtype), 1 / (1 + decrement))
        points = weights * (1 + lengths[:, None] * direction)
        values = jax.vmap(value, (0, None))(points, tau)
        best = jnp.argmin(jnp.where(jnp.isfinite(values), values, jnp.inf))
        moved = points[jnp.where(decrement < NEAR, LENGTHS.index(1.0), best)]
        return jnp.where(jnp.all(jnp.isfinite(moved) & (moved > 0)), moved, weights)

    def follow(step: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        weights, best = carry
        tau = jnp.asarray(GROWTH, weights.dtype) ** (step + 1)
        weights = jax.lax.fori_loop(0, CENTERINGS, lambda _, w: center(w, tau), weights)
        return weights, better(_normalized(weights, present), best)

    def better(new: jax.Array, old: jax.Array) -> jax.Array:
        return jnp.where(residual(new) < residual(old), new, old)

    def slopes(weights: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The gradient and the Hessian, without smoothing."""
        product = matrix @ weights
        root = jnp.sqrt(jnp.maximum(weights @ product, 0))
        inverse = jnp.where(root > smallest**2, 1 / jnp.where(root > smallest**2, root, 1), 0)
        hessian = radius * (matrix * inverse - jnp.outer(product, product) * inverse**3)
        return linear + radius * product * inverse, hessian

    def slack_of(weights: jax.Array) -> jax.Array:
        gradient = slopes(weights)[0]
        return gradient - jnp.min(jnp.where(present > 0, gradient, jnp.inf))

    def residual(weights: jax.Array) -> jax.Array:
        complementary = jnp.max(jnp.minimum(weights, slack_of(weights)) * present)
        found = jnp.maximum(complementary, jnp.maximum(-weights.min(), jnp.abs(weights.sum() - 1)))
        return jnp.where(jnp.isfinite(found), found, jnp.inf)

    def polish(_: int, weights: jax.Array) -> jax.Array:
        """A Newton step on the weights that are not 0, taken to be those that exceed their slack."""
        kept = (weights > slack_of(weights)) * present
        gradient, hessian = slopes(weights)
        corner = hessian * jnp.outer(kept, kept) + jnp.diag(1 - kept)
        system = jnp.block([[corner, kept[:, None]], [kept, jnp.zeros(1, weights.dtype)]])
        right = jnp.append(jnp.where(kept > 0, -gradient, -weights), 1 - kept @ weights)
        return better(weights + (jnp.linalg.pinv(system, hermitian=True) @ right)[:-1], weights)

    even = _normalized(jnp.ones_like(linear), present)
    start = jnp.where(present > 0, even, 1)
    weights = jax.lax.fori_loop(0, outer, follow, (start, even))[1]
    weights = jax.lax.fori_loop(0, POLISHINGS, polish, weights)
    return _normalized(jnp.maximum(weights, 0), present)


def _normalized(weights: jax.Array, present: jax.Array) -> jax.Array:
    weights = weights * present
    return weights / jnp.maximum(weights.sum(), jnp.finfo(weights.dtype).tiny)
