"""Maximum mean discrepancies between two sets of vectors: MK-MMD and JMMD.

Long et al. 2015, "Learning Transferable Features with Deep Adaptation Networks" (DAN), and Long et al. 2017, "Deep
Transfer Learning with Joint Adaptation Networks" (JAN). The estimators are those of Gretton et al. 2012, "A Kernel
Two-Sample Test", JMLR 13: unbiased, biased, and in linear time (lemma 14).

Published implementations differ in four places. `VARIANTS` says how:

- the bandwidth: of all pairs of both sets, or of the source alone; a median or a mean; with a point's distance to
  itself or without;
- the kernels: which multiples of the bandwidth, and whether the kernels are averaged or summed;
- the estimator;
- a constant that is added (it has no gradient).
"""

import dataclasses
import functools
import operator
from collections.abc import Sequence

import chex
import jax
import jax.numpy as jnp

from tlx.errors import TlxError, listed
from tlx.losses.rows import in_float32, known_variant, positive, squared_distances, weight_of

ESTIMATORS = ("linear", "unbiased", "biased")


@dataclasses.dataclass(frozen=True)
class Kernels:
    """A family of Gaussian kernels exp(−‖x − y‖² / (factor · bandwidth)), and how it is estimated.

    Attributes:
      factors: the multiples of the bandwidth, one for each kernel.
      rule: what the bandwidth is: `median`, of the squared distances of all pairs of different rows of both sets;
        `mean`, of all squared distances of both sets, each row's distance 0 to itself included; `source_median`, the
        lower median of all squared distances in the source, each row's to itself included.
      summed: whether kernels are summed, not averaged.
      estimator: one of `ESTIMATORS`.
      offset: whether 1 / (n_s − 1) + 1 / (n_t − 1) is added.
    """

    factors: tuple[float, ...]
    rule: str = "median"
    summed: bool = False
    estimator: str = "linear"
    offset: bool = False


DAN_FACTORS = tuple(2.0 ** (step / 2) for step in range(-16, 17))  # from 2⁻⁸ to 2⁸ by √2 (DAN, implementation details)
TLLIB_FACTORS = tuple(2 * 2.0**k for k in range(-3, 2))  # exp(−d² / (2 α mean d²)) with α = 2⁻³, …, 2

VARIANTS = {
    "paper": Kernels(DAN_FACTORS),
    "tllib": Kernels(TLLIB_FACTORS, "mean", summed=True, estimator="unbiased", offset=True),
    "pytorch_adapt": Kernels((1.0,), "source_median"),
}


def mk_mmd(
    source: jax.Array,
    target: jax.Array,
    source_weight: jax.Array | None = None,
    target_weight: jax.Array | None = None,
    *,
    variant: str = "paper",
    estimator: str | None = None,
    factors: Sequence[float] | None = None,
    bandwidth: float | None = None,
) -> jax.Array:
    """The squared maximum mean discrepancy of two sets under several Gaussian kernels (DAN).

    The paper estimates it in linear time from pairs of successive rows:
    d² = 2/n Σ_i k(s_{2i−1}, s_{2i}) + k(t_{2i−1}, t_{2i}) − k(s_{2i−1}, t_{2i}) − k(s_{2i}, t_{2i−1}). The kernel is
    the mean of 33 Gaussian kernels, exp(−‖x − y‖² / γ), with γ from 2⁻⁸ to 2⁸ times the median squared distance. The
    paper also optimizes the kernels' weights, which is not done here. No gradient passes through the
    bandwidth. The unbiased and the linear estimate may be negative.

    Args:
      source: (n, features), any float.
      target: (m, features).
      source_weight: bool or number (n,); 0 leaves a row out, such as one of padding. A pair of rows has the product of
        their weights. The bandwidth is that of the rows with a weight above 0.
      target_weight: (m,).
      variant: `paper`; `tllib` (five kernels, summed, on the mean of all squared distances; unbiased estimate plus
        1 / (n − 1) + 1 / (m − 1)); `pytorch_adapt` (one kernel on the source's median; linear-time estimate).
      estimator: `linear` (in pairs of rows; a last single row is not used, and of sets of different sizes the first
        rows of the larger are), `unbiased` (all pairs of different rows) or `biased` (all pairs; at least 0, and 0 for
        equal sets); None: the variant's.
      factors: the multiples of the bandwidth; None: the variant's.
      bandwidth: a squared distance that replaces the one computed from the rows; None: computed.

    Returns:
      (), float32 or the inputs' higher precision; 0 if there are too few rows for the estimator.

    Raises:
      TlxError: if there is no such variant or estimator.
    """
    known_variant("mk_mmd", variant, tuple(VARIANTS))
    kernels = _with(VARIANTS[variant], estimator, factors)
    return _discrepancy([source], [target], source_weight, target_weight, [kernels], [bandwidth])


def jmmd(
    source: Sequence[jax.Array],
    target: Sequence[jax.Array],
    source_weight: jax.Array | None = None,
    target_weight: jax.Array | None = None,
    *,
    variant: str = "paper",
    estimator: str | None = None,
) -> jax.Array:
    """The joint maximum mean discrepancy of several layers: that of the product of their kernels (JAN).

    The paper has one Gaussian kernel a layer, whose bandwidth is the median squared distance, and estimates in linear
    time. No gradient passes through the bandwidths.

    Args:
      source: for each layer (n, features of the layer), such as features and class probabilities.
      target: for each layer (m, features of the layer).
      source_weight: bool or number (n,); 0 leaves a row out.
      target_weight: (m,).
      variant: `paper`; `tllib` (the kernels of `mk_mmd`'s variant `tllib` for each layer but the last, which has one of
        bandwidth 2 · 0.92²; unbiased estimate plus 1 / (n − 1) + 1 / (m − 1)); `pytorch_adapt` (one kernel a layer, on
        the source's median; linear-time estimate).
      estimator: as in `mk_mmd`; None: the variant's.

    Returns:
      (), float32 or the inputs' higher precision; 0 if there are too few rows for the estimator.

    Raises:
      TlxError: if there is no such variant or estimator, or the numbers of layers differ.
    """
    known_variant("jmmd", variant, tuple(VARIANTS))
    if len(source) != len(target) or not source:
        raise TlxError(f"jmmd has {len(source)} layers of the source and {len(target)} of the target; give both alike.")
    every = VARIANTS[variant] if variant != "paper" else dataclasses.replace(VARIANTS[variant], factors=(1.0,))
    kernels = [_with(every, estimator, None)] * len(source)
    bandwidths: list[float | None] = [None] * len(source)
    if variant == "tllib":
        kernels[-1], bandwidths[-1] = dataclasses.replace(kernels[-1], factors=(1.0,)), 2 * 0.92**2
    return _discrepancy(source, target, source_weight, target_weight, kernels, bandwidths)


def _with(kernels: Kernels, estimator: str | None, factors: Sequence[float] | None) -> Kernels:
    if estimator is not None and estimator not in ESTIMATORS:
        raise TlxError(f"there is no estimator {estimator!r} of a mean discrepancy; there are {listed(ESTIMATORS)}.")
    return dataclasses.replace(
        kernels,
        estimator=estimator or kernels.estimator,
        offset=kernels.offset and estimator is None,
        factors=kernels.factors if factors is None else tuple(factors),
    )


def _discrepancy(
    source: Sequence[jax.Array], target: Sequence[jax.Array], source_weight: jax.Array | None,
    target_weight: jax.Array | None, kernels: Sequence[Kernels], bandwidths: Sequence[float | None],
) -> jax.Array:  # fmt: skip
    """The discrepancy under the product of the layers' kernels."""
    source, target = [in_float32(x) for x in source], [in_float32(x) for x in target]
    w, v = weight_of(source_weight, source[0]), weight_of(target_weight, target[0])
    estimator = kernels[0].estimator
    by_layer = []  # the kernel's values at the pairs of rows that the estimator reads
    for x, y, layer, fixed in zip(source, target, kernels, bandwidths, strict=True):
        chex.assert_equal(x.shape[1:], y.shape[1:])
        ss, tt, st = (squared_distances(*pair) for pair in ((x, x, w, w), (y, y, v, v), (x, y, w, v)))
        gamma = _bandwidth(layer.rule, ss, tt, st, w, v) if fixed is None else jnp.asarray(fixed, x.dtype)
        read = _successive(ss, tt, st) if estimator == "linear" else [ss, tt, st]
        by_layer.append([_kernel(layer, part, gamma) for part in read])
    joint = [functools.reduce(operator.mul, parts) for parts in zip(*by_layer, strict=True)]
    value, enough = _linear(joint, w, v) if estimator == "linear" else _quadratic(joint, w, v, estimator == "biased")
    if kernels[0].offset:
        value += sum(1 / jnp.maximum(weight.sum() - 1, 1) for weight in (w, v))
    return jnp.where(enough, value, jnp.zeros_like(value))


def _kernel(kernels: Kernels, squares: jax.Array, bandwidth: jax.Array) -> jax.Array:
    scales = bandwidth * jnp.asarray(kernels.factors, squares.dtype)
    values = jnp.exp(-squares[..., None] / scales)
    return values.sum(axis=-1) if kernels.summed else values.mean(axis=-1)


def _bandwidth(rule: str, ss: jax.Array, tt: jax.Array, st: jax.Array, w: jax.Array, v: jax.Array) -> jax.Array:
    """The bandwidth by the rule of `Kernels`, a constant in differentiation, above 0."""
    ss, tt, st = jax.lax.stop_gradient((ss, tt, st))
    in_source, in_target = w > 0, v > 0
    if rule == "source_median":
        value = _median(ss.ravel(), (in_source[:, None] & in_source).ravel(), lower=True)
    elif rule == "mean":
        pairs = [(ss, in_source[:, None] & in_source), (tt, in_target[:, None] & in_target)]
        pairs += 2 * [(st, in_source[:, None] & in_target)]
        total = jnp.stack([jnp.where(used, squares, 0).sum() for squares, used in pairs]).sum()
        value = total / positive(jnp.stack([used.sum() for _, used in pairs]).sum().astype(ss.dtype))
    else:
        upper = [jnp.triu_indices(len(squares), 1) for squares in (ss, tt)]
        squares = jnp.concatenate([ss[upper[0]], tt[upper[1]], st.ravel()])
        first, second = ((used[at[0]] & used[at[1]]) for used, at in zip((in_source, in_target), upper))
        value = _median(squares, jnp.concatenate([first, second, (in_source[:, None] & in_target).ravel()]))
    return jax.lax.stop_gradient(jnp.maximum(value, jnp.finfo(value.dtype).tiny ** 0.5))


def _median(values: jax.Array, used: jax.Array, lower: bool = False) -> jax.Array:
    """The median of the values that are used; of an even number the mean of the middle two, or the lower of them."""
    ordered, count = jnp.sort(jnp.where(used, values, jnp.inf)), used.sum()
    low, high = ordered[jnp.maximum(count - 1, 0) // 2], ordered[jnp.minimum(count // 2, len(values) - 1)]
    return jnp.where(count > 0, low if lower else (low + high) / 2, 1)


def _successive(ss: jax.Array, tt: jax.Array, st: jax.Array) -> list[jax.Array]:
    """The entries (2i−1, 2i) of the three matrices, and the entries (2i, 2i−1) of the last, (pairs,) each."""
    first = 2 * jnp.arange(min(st.shape) // 2)
    return [ss[first, first + 1], tt[first, first + 1], st[first, first + 1], st[first + 1, first]]


def _linear(kernels: Sequence[jax.Array], w: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The linear-time estimate, and whether there is a pair."""
    ss, tt, st, ts = kernels
    first = 2 * jnp.arange(len(ss))
    weight = w[first] * w[first + 1] * v[first] * v[first + 1]
    return weight @ (ss + tt - st - ts) / positive(weight.sum()), weight.sum() > 0


def _quadratic(kernels: Sequence[jax.Array], w: jax.Array, v: jax.Array, biased: bool) -> tuple[jax.Array, jax.Array]:
    """The estimate from all pairs, and whether there is a pair of each kind."""
    ss, tt, st = kernels

    def mean(kernel: jax.Array, left: jax.Array, right: jax.Array, diagonal: bool) -> tuple[jax.Array, jax.Array]:
        weight = left[:, None] * right
        weight = weight if diagonal else weight * (1 - jnp.eye(len(weight), dtype=weight.dtype))
        return jnp.sum(weight * kernel) / positive(weight.sum()), weight.sum() > 0

    means = mean(ss, w, w, biased), mean(tt, v, v, biased), mean(st, w, v, True)
    (source, enough_source), (target, enough_target), (between, both) = means
    return source + target - 2 * between, enough_source & enough_target & both
