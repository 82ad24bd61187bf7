"""The two-dimensional problem of the CAGrad paper (Liu et al. 2021, appendix), as the Nash-MTL paper runs it.

Navon et al. 2022 (appendix) scale the first loss by 0.1 and start at five points. Below the line x_2 = 0 the losses are
parabolas around (7, −8) and (−7, −8), above it logarithms with a narrow valley each.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from tlx.methods import multitask

STARTS = ((-8.5, 7.5), (0.0, 0.0), (9.0, 9.0), (-7.5, -0.5), (9.0, -1.0))
SCALE = 0.1  # of the first loss
RATE = 1e-3  # of Adam
CAGRAD_C = 0.4  # the value of Nash-MTL's authors
LEAST = 5e-6  # in the logarithms
LOWER = (-21 * SCALE, -21.0)  # what FAMO's authors subtract from the losses here, which are negative
FAMO = {"rate": 0.025, "decay": 0.001}


def losses(x: jax.Array) -> jax.Array:
    """Both losses at a point; (2,) from (2,)."""
    x1, x2 = x
    logs = [
        jnp.log(jnp.maximum(jnp.abs(inner), LEAST)) + 6
        for inner in (0.5 * (-x1 - 7) - jnp.tanh(-x2), 0.5 * (-x1 + 3) + jnp.tanh(-x2) + 2)
    ]
    squares = [((-x1 + side) ** 2 + 0.1 * (-x2 - 8) ** 2) / 10 - 20 for side in (7, -7)]
    above, below = (_positive(jnp.tanh(0.5 * sign * x2)) for sign in (1, -1))
    first, second = (log * above + square * below for log, square in zip(logs, squares, strict=True))
    return jnp.stack([SCALE * first, second])


def _positive(x: jax.Array) -> jax.Array:
    """max(x, 0) with slope 1 at 0, as torch.clamp has it: one start is on the line x_2 = 0."""
    return jnp.where(x >= 0, x, 0)


@dataclasses.dataclass(frozen=True)
class Method:
    """A gradient method, or FAMO.

    Attributes:
      combine: from the losses' gradients, (2, 2), to the direction, (2,).
      logits: whether weights are FAMO's, which `combine` does not have.
    """

    combine: Callable[[jax.Array], jax.Array]
    logits: bool = False


METHODS = {
    "equal weights": Method(lambda g: g.sum(axis=0)),
    "PCGrad": Method(lambda g: multitask.pcgrad(g).gradient),
    "MGDA": Method(lambda g: multitask.mgda(g).gradient),
    "CAGrad": Method(lambda g: multitask.cagrad(g, c=CAGRAD_C).gradient),
    "IMTL-G": Method(lambda g: multitask.imtl_g(g).gradient),
    "Nash-MTL": Method(lambda g: multitask.nash_mtl(g).gradient),
    "Aligned-MTL": Method(lambda g: multitask.aligned_mtl(g).gradient),
    "FAMO": Method(lambda g: g.sum(axis=0), logits=True),
}


@functools.partial(jax.jit, static_argnames=("name", "steps", "every"))
def trajectories(name: str, steps: int, every: int = 1) -> dict[str, jax.Array]:
    """Adam's paths from all starts, in float64.

    Args:
      name: a key of `METHODS`.
      steps: number of steps, a multiple of `every`.
      every: steps between two points of the result.

    Returns:
      `x`, the points, Adam's moments `m` and `v`, and FAMO's `logits`, all (starts, steps / every + 1, 2).
    """
    method, adam = METHODS[name], optax.adam(RATE)

    def step(carry: Any, _: Any) -> tuple[Any, None]:
        x, moments, logits = carry
        gradients = jax.jacobian(losses)(x)
        direction = method.combine(gradients)
        before = losses(x)
        if method.logits:
            direction = multitask.famo(before, logits, lower=jnp.asarray(LOWER)) @ gradients
        updates, moments = adam.update(direction, moments)
        x = optax.apply_updates(x, updates)
        if method.logits:
            logits = multitask.famo_logits(logits, before, losses(x), lower=jnp.asarray(LOWER), **FAMO)
        return (x, moments, logits), None

    def shown(carry: Any) -> dict[str, jax.Array]:
        x, (moments, *_), logits = carry
        return {"x": x, "m": moments.mu, "v": moments.nu, "logits": logits}

    def some(carry: Any, _: Any) -> tuple[Any, Any]:
        carry, _ = jax.lax.scan(step, carry, length=every)
        return carry, shown(carry)

    def path(start: jax.Array) -> dict[str, jax.Array]:
        first = (start, adam.init(start), jnp.zeros(2))
        _, points = jax.lax.scan(some, first, length=steps // every)
        return jax.tree.map(lambda one, rest: jnp.concatenate([one[None], rest]), shown(first), points)

    return jax.vmap(path)(jnp.asarray(STARTS, float))
