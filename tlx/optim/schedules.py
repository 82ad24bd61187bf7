"""Learning-rate schedules by name, from optax where it has them."""

import jax.numpy as jnp
import optax

from tlx.errors import TlxError, listed

NAMES = ("constant", "linear", "cosine", "polynomial", "inverse_sqrt")


def make_schedule(
    name: str, peak: float, total_steps: int, warmup_steps: int = 0, *, power: float = 1.0, final_fraction: float = 0.0
) -> optax.Schedule:
    """The learning rate by step.

    Args:
      name: after the warm-up `constant`; `linear`, `cosine` or `polynomial` down to `final_fraction · peak` at
        `total_steps`; or `inverse_sqrt`, peak · √(w / step) with w = max(warmup_steps, 1) (Vaswani et al. 2017, eq. 3).
      peak: the highest rate, reached at step `warmup_steps`.
      total_steps: of the run.
      warmup_steps: over which the rate rises linearly from 0. Step 0 then trains with rate 0, as in the reference.
      power: of the polynomial.
      final_fraction: of the peak, at the end.
    """
    if name not in NAMES:
        raise TlxError(f"schedule is {name!r}; tlx has {listed(NAMES)}.")
    if warmup_steps >= total_steps:
        raise TlxError(f"a warm-up of {warmup_steps} steps leaves nothing of a run of {total_steps}.")
    after, final = total_steps - warmup_steps, final_fraction * peak
    decay = {
        "constant": lambda: optax.constant_schedule(peak),
        "linear": lambda: optax.linear_schedule(peak, final, after),
        "cosine": lambda: optax.cosine_decay_schedule(peak, after, alpha=final_fraction),
        "polynomial": lambda: optax.polynomial_schedule(peak, final, power, after),
        "inverse_sqrt": lambda: _inverse_sqrt(peak, max(warmup_steps, 1)),
    }[name]()
    if warmup_steps == 0:
        return decay
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup_steps), decay], [warmup_steps])


def _inverse_sqrt(peak: float, timescale: int) -> optax.Schedule:
    """peak · √(timescale / (timescale + steps since the warm-up)); optax has none. Joined schedules are asked for
    steps before their own first, too."""
    return lambda step: peak * jnp.sqrt(timescale / (timescale + jnp.maximum(step, 0)))
