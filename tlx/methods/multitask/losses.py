"""Weightings of several tasks' losses, as functions of losses and their history. The defaults are the papers' forms."""

import chex
import jax
import jax.numpy as jnp

from tlx.losses.rows import known_variant

UNCERTAINTY = ("paper", "half", "log1p")
GRADNORM = ("paper", "softmax")
# A step of GradNorm's weights is as long as a gradient's norm: without a bound, of which the paper does not speak, a
# large norm makes a weight negative, and its task's loss grows.
LEAST_WEIGHT = 1e-3
RANDOM = ("normal", "uniform", "one")


def uncertainty(
    losses: jax.Array, log_variances: jax.Array, classification: jax.Array | bool = False, *, variant: str = "paper"
) -> jax.Array:
    """Uncertainty weighting (Kendall, Gal & Cipolla 2018, eq. 7 and 10). The sum of the result is minimized.

    A task has a trained variance σ², as s = log σ². A squared error counts e^−s L / 2 + s / 2, the negative
    log-likelihood of a normal distribution; a cross entropy e^−s L + s / 2.

    Args:
      losses: (tasks,).
      log_variances: (tasks,), s.
      classification: bool, (tasks,) or for all; whether the loss is a cross entropy.
      variant: `paper`; `half`, e^−s L / 2 + s / 2 for every loss (LibMTL and Nash-MTL's code); or `log1p`,
        e^−s L / 2 + log(1 + e^s) for every loss, which is positive (Liebel & Körner 2018, "Auxiliary Tasks in
        Multi-task Learning", eq. 3, whose σ² is e^s here).

    Returns:
      (tasks,).

    Raises:
      TlxError: there is no such variant.
    """
    known_variant("uncertainty", variant, UNCERTAINTY)
    halved = 0.5 if variant != "paper" else jnp.where(jnp.asarray(classification), 1.0, 0.5).astype(losses.dtype)
    regularizer = jax.nn.softplus(log_variances) if variant == "log1p" else log_variances / 2
    return halved * jnp.exp(-log_variances) * losses + regularizer


def dwa(last: jax.Array, before: jax.Array, *, temperature: float = 2.0) -> jax.Array:
    """Dynamic weight average (Liu, Johns & Davison 2019, eq. 7): tasks whose loss fell less get more weight.

    The weights are K softmax(w / T) with w the ratio of a task's mean losses in the last two epochs. In the first two
    epochs the weights are 1 (not decided here).

    Args:
      last: (tasks,), the mean losses of the last epoch, t − 1.
      before: (tasks,), those of the epoch before, t − 2.
      temperature: T; the larger, the more equal the weights.

    Returns:
      (tasks,), whose sum is the number of tasks.
    """
    return len(last) * jax.nn.softmax(last / before / temperature)


def rlw(key: jax.Array, tasks: int, *, distribution: str = "normal") -> jax.Array:
    """Random loss weighting (Lin et al. 2022, "Reasonable Effectiveness of Random Weighting"): new weights each step.

    Args:
      key: random key of the step.
      tasks: the number of tasks.
      distribution: `normal` or `uniform`, of which independent numbers go through a softmax; `one`, a random task has
        weight 1.

    Returns:
      (tasks,), whose sum is 1.

    Raises:
      TlxError: there is no such distribution.
    """
    known_variant("rlw", distribution, RANDOM)
    if distribution == "one":
        return jax.nn.one_hot(jax.random.randint(key, (), 0, tasks), tasks, dtype=float)
    draw = jax.random.normal if distribution == "normal" else jax.random.uniform
    return jax.nn.softmax(draw(key, (tasks,)))


def gradnorm(
    gradients: jax.Array,
    losses: jax.Array,
    initial: jax.Array,
    parameters: jax.Array,
    *,
    alpha: float = 1.5,
    rate: float = 0.025,
    variant: str = "paper",
    present: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """GradNorm (Chen et al. 2018, eq. 1 and 2, algorithm 1). Learns weights that bring the gradients to equal norms.

    The loss of the weights is Σ_i |w_i ‖g_i‖ − (mean_j w_j ‖g_j‖) r_i^α|, where r_i is task i's L(t) / L(0), divided by
    the mean of it over tasks; the second term is a constant. The weights take a step of gradient descent.

    Args:
      gradients: (tasks, parameters), of the losses without weights, with respect to a shared layer; or (tasks,), their
        norms.
      losses: (tasks,), L(t).
      initial: (tasks,), L(0). A loss other than cross entropy may begin anywhere; the paper takes log(classes) for a
        cross entropy whose L(0) depends on initialization.
      parameters: (tasks,), what is learnt: the weights (`paper`), or numbers of which K softmax is the weights.
      alpha: the strength with which tasks that train slowly are favoured.
      rate: of the step.
      variant: `paper`, after whose step the weights, at least `LEAST_WEIGHT`, are divided by their mean, so that they
        sum to the number of tasks;
        or `softmax`, as in LibMTL.
      present: bool (tasks,); a task that is False does not enter means, and its weight takes no step. None: all do.

    Returns:
      the weights of this step, (tasks,), and the parameters after it.

    Raises:
      TlxError: there is no such variant.
    """
    known_variant("gradnorm", variant, GRADNORM)
    norms = jnp.linalg.norm(gradients, axis=1) if gradients.ndim == 2 else gradients
    chex.assert_equal_shape([norms, losses, initial, parameters])
    mask = jnp.ones_like(losses) if present is None else jnp.asarray(present, losses.dtype)

    def mean(values: jax.Array) -> jax.Array:
        return (values * mask).sum() / jnp.maximum(mask.sum(), 1)

    ratio = jnp.where(mask > 0, losses / initial, 1)
    rates = (ratio / mean(ratio)) ** alpha

    def weights_of(parameters: jax.Array) -> jax.Array:
        return len(norms) * jax.nn.softmax(parameters) if variant == "softmax" else parameters

    def distance(parameters: jax.Array) -> jax.Array:
        weighted = jnp.abs(weights_of(parameters)) * norms
        apart = (weighted - jax.lax.stop_gradient(mean(weighted) * rates)) * mask
        return jnp.where(apart == 0, 0, jnp.abs(apart)).sum()  # with the slope 0 at 0, where that of abs is 1

    moved = parameters - rate * jax.grad(distance)(parameters)
    if variant == "paper":
        moved = jnp.maximum(moved, LEAST_WEIGHT)
        moved = moved / moved.mean()
    return weights_of(parameters), moved


def famo(losses: jax.Array, logits: jax.Array, *, lower: jax.Array | float = 0.0) -> jax.Array:
    """FAMO's weights (Liu et al. 2023, "FAMO: Fast Adaptive Multitask Optimization", algorithm 1).

    With z = softmax(logits), the weights z_i / L_i divided by their sum: the gradient of Σ z_i log L_i, scaled.
    `famo_logits` moves the logits after the parameters' step.

    Args:
      losses: (tasks,), positive.
      logits: (tasks,), 0 at first.
      lower: (tasks,) or a number that is subtracted from the losses, for losses that are not positive.

    Returns:
      (tasks,), whose sum is 1.
    """
    shares = jax.nn.softmax(logits) / _positive(losses - lower)
    return shares / shares.sum()


def famo_logits(
    logits: jax.Array,
    before: jax.Array,
    after: jax.Array,
    *,
    lower: jax.Array | float = 0.0,
    rate: float = 0.025,
    decay: float = 0.001,
) -> jax.Array:
    """FAMO's logits after a step (algorithm 1): ξ − β (δ + γ ξ), δ = Jᵀ (log L(t) − log L(t + 1)), J that of softmax.

    Args:
      logits: (tasks,), ξ.
      before: (tasks,), the losses before the parameters' step.
      after: (tasks,), the losses after it.
      lower: as in `famo`.
      rate: β.
      decay: γ.
    """
    change = jnp.log(_positive(before - lower)) - jnp.log(_positive(after - lower))
    (delta,) = jax.vjp(jax.nn.softmax, logits)[1](change)
    return logits - rate * (delta + decay * logits)


def _positive(losses: jax.Array) -> jax.Array:
    return jnp.maximum(losses, 1e-8)
