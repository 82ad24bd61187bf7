"""Gradient methods for several tasks, as functions of the matrix of the tasks' gradients.

`gradients` is (tasks, parameters): row i is the gradient of task i's loss with respect to the shared parameters. Every
method returns a linear combination of its rows. The defaults are the papers' forms.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from tlx.errors import TlxError
from tlx.losses.rows import in_float32, known_variant
from tlx.methods.multitask import gram


class Combined(NamedTuple):
    """A combined gradient.

    Attributes:
      gradient: (parameters,), the sum of the tasks' gradients times their weights.
      weights: (tasks,).
    """

    gradient: jax.Array
    weights: jax.Array


def pcgrad(
    gradients: jax.Array,
    key: jax.Array | None = None,
    *,
    reduction: str = "sum",
    meets_itself: bool = False,
    present: jax.Array | None = None,
) -> Combined:
    """PCGrad (Yu et al. 2020, "Gradient Surgery for Multi-Task Learning", algorithm 1).

    Each gradient meets the other tasks' gradients one after the other, in random order. If it then has a negative inner
    product with one of them, the component along that one is removed. The results are summed.

    Args:
      gradients: (tasks, parameters).
      key: random key of the orders; None: each task meets the others in the order of the rows.
      reduction: `sum` (the paper) or `mean` over tasks (the form of the CAGrad paper's figure 2).
      meets_itself: whether a changed gradient is also compared with its own original, as in LibMTL and Nash-MTL's code.
      present: bool (tasks,); a task that is False takes no part. None: all do.

    Raises:
      TlxError: there is no such reduction.
    """
    known_variant("pcgrad", reduction, gram.PROJECTIONS)
    tasks = len(gradients)
    return _combined(
        gradients, present,
        lambda m, p: gram.pcgrad_weights(m, p, pcgrad_orders(key, tasks), reduction, meets_itself),
    )  # fmt: skip


def pcgrad_orders(key: jax.Array | None, tasks: int) -> jax.Array:
    """The order in which each task meets the others, int (tasks, tasks); None for a key: that of the rows."""
    if key is None:
        return jnp.tile(jnp.arange(tasks), (tasks, 1))
    return jax.vmap(lambda each: jax.random.permutation(each, tasks))(jax.random.split(key, tasks))


def mgda(gradients: jax.Array, *, present: jax.Array | None = None) -> Combined:
    """MGDA: the shortest vector in the convex hull of the gradients (Désidéri 2012; Sener & Koltun 2018, eq. 3).

    With gradients with respect to the shared features, in place of the shared parameters, the weights are those of
    Sener and Koltun's upper bound (MGDA-UB, their eq. 4).

    Args:
      gradients: (tasks, parameters).
      present: bool (tasks,); a task that is False takes no part. None: all do.
    """
    return _combined(gradients, present, gram.mgda_weights)


def cagrad(
    gradients: jax.Array, *, c: float = 0.5, rescale: str = "none", present: jax.Array | None = None
) -> Combined:
    """CAGrad (Liu et al. 2021, "Conflict-Averse Gradient Descent for Multi-task Learning", algorithm 1).

    The vector within a distance of c ‖g0‖ from the mean gradient g0 whose least inner product with the tasks' gradients
    is largest: g0 + c ‖g0‖ g_w / ‖g_w‖, where the weights w of g_w minimize g_wᵀ g0 + c ‖g0‖ ‖g_w‖ on the simplex.

    Args:
      gradients: (tasks, parameters).
      c: in [0, 1). 0 is the mean of the gradients; as it grows, the direction approaches MGDA's.
      rescale: what the result is divided by: `none` (the paper), `1 + c` (the authors' toy problem) or `1 + c^2` (their
        networks, and LibMTL).
      present: bool (tasks,); a task that is False takes no part. None: all do.

    Raises:
      TlxError: c is negative, or there is no such `rescale`.
    """
    known_variant("cagrad", rescale, tuple(gram.RESCALES))
    if not c >= 0:
        raise TlxError(f"c of cagrad is {c}; it is at least 0.")
    return _combined(gradients, present, lambda m, p: gram.cagrad_weights(m, p, c, rescale))


def imtl_g(gradients: jax.Array, *, present: jax.Array | None = None) -> Combined:
    """IMTL-G (Liu et al. 2021, "Towards Impartial Multi-task Learning", section 3.1).

    The weights, which sum to 1 and may be negative, with which the combined gradient has the same projection on every
    task's unit gradient. If the gradients are linearly dependent, the limit of nearly dependent ones.

    Args:
      gradients: (tasks, parameters).
      present: bool (tasks,); a task that is False takes no part. None: all do.
    """
    return _combined(gradients, present, gram.imtl_g_weights)


def nash_mtl(
    gradients: jax.Array, *, scale: str = "paper", max_norm: float | None = None, present: jax.Array | None = None
) -> Combined:
    """Nash-MTL (Navon et al. 2022, "Multi-Task Learning as a Bargaining Game", claim 3.1): G Gᵀ α = 1 / α, α > 0.

    The authors approximate the solution by a sequence of convex problems; here it is found by Newton's method. At a
    Pareto stationary point there is none: α grows without bound, and the result is large but finite weights.

    Args:
      gradients: (tasks, parameters).
      scale: `paper`, in which the combined gradient has the norm √tasks, or `gram_norm`, in which the weights solve the
        equation of G Gᵀ divided by its Frobenius norm, as in the authors' code.
      max_norm: the combined gradient is shortened to this norm, as in the authors' code (1); None: it is not.
      present: bool (tasks,); a task that is False takes no part. None: all do.

    Raises:
      TlxError: there is no such scale.
    """
    known_variant("nash_mtl", scale, gram.NASH_SCALES)
    return _combined(gradients, present, lambda m, p: gram.nash_mtl_weights(m, p, scale, max_norm))


def aligned_mtl(
    gradients: jax.Array,
    *,
    weights: jax.Array | None = None,
    scale: str = "min",
    present: jax.Array | None = None,
) -> Combined:
    """Aligned-MTL (Senushkin et al. 2023, "Independent Component Alignment for Multi-Task Learning", algorithm 1).

    The matrix of gradients is replaced by the nearest one whose singular values are all equal, to the smallest of them.
    The rows of the result are summed. Singular values that are 0 to rounding are left out.

    Args:
      gradients: (tasks, parameters).
      weights: (tasks,), of the tasks; None: 1 for each.
      scale: `min` (the paper), or `median` or `rmse` of the singular values, as the authors' code offers.
      present: bool (tasks,); a task that is False takes no part. None: all do.

    Raises:
      TlxError: there is no such scale.
    """
    known_variant("aligned_mtl", scale, gram.ALIGNED_SCALES)
    return _combined(gradients, present, lambda m, p: gram.aligned_mtl_weights(m, p, weights, scale))


def _combined(gradients: jax.Array, present: jax.Array | None, weigh: gram.Weigh) -> Combined:
    chex.assert_rank(gradients, 2)
    gradients = in_float32(gradients)
    mask = jnp.ones(len(gradients)) if present is None else present
    inner = jnp.matmul(gradients, gradients.T, precision=jax.lax.Precision.HIGHEST)
    weights = weigh(inner, mask.astype(gradients.dtype))
    return Combined(jnp.matmul(weights, gradients, precision=jax.lax.Precision.HIGHEST), weights)
