"""Optimal transport between labelled source rows and target rows (Damodaran et al. 2018, "DeepJDOT").

The coupling is ott-jax's, an optional dependency (the extra `adaptation`) that is imported when a loss is traced.
"""

import warnings
from typing import Any

import chex
import jax
import jax.numpy as jnp

from tlx.errors import TlxError
from tlx.losses.rows import in_float32, positive, squared_distances, weight_of


def joint_cost(
    source: jax.Array, target: jax.Array, labels: jax.Array, target_logits: jax.Array, source_weight: jax.Array,
    target_weight: jax.Array, feature_weight: float, label_weight: float,
) -> jax.Array:  # fmt: skip
    """α ‖s_i − t_j‖² − λ log p_j(y_i) for each pair of rows, (n, m); p_j = softmax(target_logits_j)."""
    squares = squared_distances(source, target, source_weight, target_weight)
    log_p = jax.nn.log_softmax(in_float32(target_logits))
    of_labels = jax.nn.one_hot(labels, log_p.shape[-1], dtype=log_p.dtype) if labels.ndim == 1 else labels
    return feature_weight * squares - label_weight * of_labels @ log_p.T


def sinkhorn_alignment(
    source: jax.Array,
    target: jax.Array,
    labels: jax.Array,
    target_logits: jax.Array,
    source_weight: jax.Array | None = None,
    target_weight: jax.Array | None = None,
    *,
    feature_weight: float = 0.001,
    label_weight: float = 0.0001,
    epsilon: float = 0.01,
    threshold: float = 1e-3,
    max_iterations: int = 2000,
) -> jax.Array:
    """DeepJDOT's alignment: Σ_ij γ_ij (α ‖s_i − t_j‖² + λ cross entropy of t_j's prediction against the label of s_i).

    γ is the coupling of the two sets, with their weights as marginals, that has the least cost. As in the paper it is
    recomputed for each batch and is a constant in differentiation. The paper takes exact optimal transport; here γ
    minimizes cost − ε entropy(γ) (Cuturi 2013), and approaches the paper's as ε falls.

    Args:
      source: (n, features), any float.
      target: (m, features).
      labels: of the source's rows, integers (n,), or probabilities (n, classes).
      target_logits: (m, classes).
      source_weight: bool or number (n,); 0 leaves a row out.
      target_weight: (m,).
      feature_weight: α, of the distance of features.
      label_weight: λ, of the cross entropy.
      epsilon: ε as a share of the mean cost of all pairs, above 0. Fewer iterations are needed where it is larger.
      threshold: the iterations end where the marginals are met to this L1 error.
      max_iterations: … or after this number.

    Returns:
      (), float32 or the inputs' higher precision; 0 if a set has no rows.

    Raises:
      TlxError: if ott-jax is not installed.
    """
    chex.assert_equal(source.shape[1:], target.shape[1:])
    chex.assert_equal_shape_prefix([target, target_logits], 1)
    source, target = in_float32(source), in_float32(target)
    w, v = weight_of(source_weight, source), weight_of(target_weight, target)
    cost = joint_cost(source, target, labels, target_logits, w, v, feature_weight, label_weight)
    cost = jnp.where((w[:, None] > 0) & (v > 0), cost, 0)  # rows of padding may hold anything
    a, b = w / positive(w.sum()), v / positive(v.sum())
    coupling = jax.lax.stop_gradient(_coupling(cost, a, b, epsilon, threshold, max_iterations))
    return jnp.sum(coupling * cost)


def _coupling(
    cost: jax.Array, a: jax.Array, b: jax.Array, epsilon: float, threshold: float, max_iterations: int
) -> jax.Array:
    """The coupling (n, m) of least regularized cost, by Sinkhorn's iterations on logarithms; 0 if a set has no rows."""
    geometry, linear = _ott()
    cost = jax.lax.stop_gradient(cost)
    mean = a @ cost @ b
    some = mean > 0  # where all costs are 0 every coupling has the same cost
    shape = geometry.Geometry(cost_matrix=cost, epsilon=epsilon * jnp.where(some, mean, 1.0))
    present = (a.sum() > 0) & (b.sum() > 0)
    uniform = [jnp.where(present, part, 1 / len(part)) for part in (a, b)]
    found = linear.solve(shape, *uniform, threshold=threshold, max_iterations=max_iterations)
    return jnp.where(present, found.matrix, 0)


def _ott() -> tuple[Any, Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it imports jaxopt, which says that it is not maintained
            from ott.geometry import geometry
            from ott.solvers import linear
    except ImportError:
        raise TlxError("optimal transport needs ott-jax: pip install 'tlx[adaptation]'.") from None
    return geometry, linear
