"""Weights of tasks from the inner products of their gradients.

All gradient methods here combine the tasks' gradients linearly, and their weights depend on the gradients through the
Gram matrix M = G Gᵀ alone, (tasks, tasks). It is small, and can be summed over the leaves of parameter trees, so that
the gradients are never copied into one matrix. `tlx.methods.multitask.gradients` describes the methods.

In every function `gram` is (tasks, tasks), and `present` is a float (tasks,), 1, or 0 for a task that takes no part and
has weight 0. All return (tasks,).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from tlx.methods.multitask.simplex import minimize_on_simplex

Weigh = Callable[[jax.Array, jax.Array], jax.Array]  # (gram, present) -> weights
NEWTON_ITERATIONS = 60
PROJECTIONS = ("sum", "mean")
RESCALES = {"none": lambda c: 1.0, "1 + c": lambda c: 1 + c, "1 + c^2": lambda c: 1 + c**2}
NASH_SCALES = ("paper", "gram_norm")
ALIGNED_SCALES = ("min", "median", "rmse")


def pcgrad_weights(
    gram: jax.Array, present: jax.Array, orders: jax.Array, reduction: str = "sum", meets_itself: bool = False
) -> jax.Array:
    """PCGrad. `orders`: int (tasks, tasks), the order in which each task meets the others."""
    tasks = len(gram)

    def projected(task: jax.Array, order: jax.Array) -> jax.Array:
        def meet(index: int, weights: jax.Array) -> jax.Array:
            other = order[index]
            inner, square = weights @ gram[:, other], gram[other, other]
            meets = (inner < 0) & (square > 0) & (present[other] > 0) & (meets_itself | (other != task))
            return weights.at[other].add(jnp.where(meets, -inner / jnp.where(square > 0, square, 1), 0))

        own = jnp.zeros(tasks, gram.dtype).at[task].set(present[task])
        return jax.lax.fori_loop(0, tasks, meet, own)

    weights = jax.vmap(projected)(jnp.arange(tasks), orders).sum(axis=0)
    return weights / _count(present) if reduction == "mean" else weights


def mgda_weights(gram: jax.Array, present: jax.Array) -> jax.Array:
    """MGDA: the point of least norm in the convex hull of the gradients."""
    return minimize_on_simplex(_scaled(gram, present), jnp.zeros_like(present), jnp.ones((), gram.dtype), present)


def cagrad_weights(gram: jax.Array, present: jax.Array, c: float = 0.5, rescale: str = "none") -> jax.Array:
    """CAGrad. The weights of g0 + c ‖g0‖ g_w / ‖g_w‖, g_w minimizing g_wᵀ g0 + c ‖g0‖ ‖g_w‖ over the simplex."""
    matrix, mean = _scaled(gram, present), present / _count(present)
    linear, radius = matrix @ mean, c * _norm(matrix, mean)
    worst = minimize_on_simplex(matrix, linear, radius, present)
    norm = _norm(matrix, worst)
    more = jnp.where(norm > 0, radius / jnp.where(norm > 0, norm, 1), 0)
    return (mean + more * worst) / RESCALES[rescale](c)


def imtl_g_weights(gram: jax.Array, present: jax.Array) -> jax.Array:
    """IMTL-G: Σ w = 1, and the combined gradient has the same projection on each task's unit gradient."""
    norms, cosines = _cosines(gram, present)
    # Equal projections are cosines · v = constant for v = w · norms. What is added lets linearly dependent gradients
    # have the solution that nearly dependent ones have.
    added = 16 * len(gram) * jnp.finfo(gram.dtype).eps
    parts = jnp.linalg.solve(cosines + added * jnp.eye(len(gram), dtype=gram.dtype), present)
    weights = parts / norms * present
    total = weights.sum()
    return weights / jnp.where(total == 0, 1, total)


def nash_mtl_weights(
    gram: jax.Array, present: jax.Array, scale: str = "paper", max_norm: float | None = None
) -> jax.Array:
    """Nash-MTL: the solution α > 0 of M α = 1 / α, scaled.

    It minimizes αᵀ M α / 2 − Σ log α, a self-concordant function, so that a damped Newton step of length 1 / (1 + λ), λ
    the Newton decrement, always lessens it (Boyd & Vandenberghe 2004, section 9.6). Some longer steps are tried too.
    """
    norms, cosines = _cosines(gram, present)
    one = jnp.eye(len(gram), dtype=gram.dtype)
    bound = jnp.asarray(jnp.finfo(gram.dtype).eps ** -0.5, gram.dtype)  # of the solution, if rounding is to leave one
    lengths = jnp.asarray([4, 2, 1, 0.5, 0.25, 0.125, 0], gram.dtype)

    def value(alpha: jax.Array) -> jax.Array:
        positive = jnp.all(alpha > 0)
        logs = jnp.log(jnp.where(alpha > 0, alpha, 1)).sum()
        return jnp.where(positive, alpha @ cosines @ alpha / 2 - logs, jnp.inf)

    def iteration(_: int, alpha: jax.Array) -> jax.Array:
        # in the variables x = α_new / α the Hessian is α M α + 1, whose eigenvalues are at least 1
        gradient = alpha * (cosines @ alpha) - 1
        direction = -jnp.linalg.solve(alpha[:, None] * cosines * alpha + one, gradient)
        decrement = jnp.sqrt(jnp.maximum(-gradient @ direction, 0))
        tried = jnp.append(lengths, 1 / (1 + decrement)).at[2].set(1)
        points = alpha * (1 + tried[:, None] * direction)
        values = jax.vmap(value)(points)
        best = jnp.where(decrement < 0.1, 2, jnp.nanargmin(values))  # near the solution, full steps
        return jnp.minimum(points[best], bound)

    alpha = jax.lax.fori_loop(0, NEWTON_ITERATIONS, iteration, jnp.ones(len(gram), gram.dtype))
    weights = alpha / norms * present
    if scale == "gram_norm":
        masked = gram * jnp.outer(present, present)
        largest = jnp.max(jnp.abs(masked), initial=jnp.finfo(gram.dtype).tiny)
        weights *= jnp.sqrt(largest) * jnp.sqrt(jnp.linalg.norm(masked / largest))
    if max_norm is None:
        return weights
    return weights * jnp.minimum(1, max_norm / jnp.maximum(_norm(gram, weights), jnp.finfo(gram.dtype).tiny))


def aligned_mtl_weights(
    gram: jax.Array, present: jax.Array, weights: jax.Array | None = None, scale: str = "min"
) -> jax.Array:
    """Aligned-MTL. `weights`: (tasks,), of the tasks; None: 1 for each."""
    matrix = gram * jnp.outer(present, present)
    values, basis = jnp.linalg.eigh(matrix)
    kept = values > values.max() * len(gram) * jnp.finfo(gram.dtype).eps
    safe = jnp.where(kept, values, 1)
    if scale == "min":
        level = jnp.min(jnp.where(kept, values, jnp.inf))
    elif scale == "median":  # the lower one of two, as torch.median has it
        ordered = jnp.sort(jnp.where(kept, values, jnp.inf))
        level = ordered[jnp.maximum(kept.sum() - 1, 0) // 2]
    else:
        level = jnp.where(kept, values, 0).sum() / jnp.maximum(kept.sum(), 1)
    level = jnp.where(kept.any(), level, 0)
    balanced = (basis * jnp.where(kept, jnp.sqrt(level / safe), 0)) @ basis.T
    return (balanced @ (present if weights is None else weights * present)) * present


def _cosines(gram: jax.Array, present: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The gradients' norms, and the cosines between them. A gradient that is 0 or absent has norm 1 and cosines 0."""
    norms = jnp.sqrt(jnp.diag(gram)) * present
    norms = jnp.where(norms > 0, norms, 1)
    one = jnp.eye(len(gram), dtype=gram.dtype)
    cosines = jnp.clip(gram / norms[:, None] / norms, -1, 1)
    return norms, cosines * jnp.outer(present, present) * (1 - one) + one


def _scaled(gram: jax.Array, present: jax.Array) -> jax.Array:
    """The Gram matrix of the tasks that are present, such that the longest gradient has the length 1."""
    largest = jnp.max(jnp.diag(gram) * present)
    return gram * jnp.outer(present, present) / jnp.where(largest > 0, largest, 1)


def _norm(matrix: jax.Array, weights: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.maximum(weights @ matrix @ weights, 0))


def _count(present: jax.Array) -> jax.Array:
    return jnp.maximum(present.sum(), 1)
