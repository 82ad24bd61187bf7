"""Learning-rate schedules by name, from optax."""

import optax

from tlx.errors import TlxError, listed

NAMES = ("constant", "linear", "cosine")


def make_schedule(name: str, peak: float, total_steps: int, warmup_steps: int = 0) -> optax.Schedule:
    """The learning rate by step.

    Args:
      name: after the warm-up `constant`, `linear` to 0 at `total_steps`, or `cosine` to 0 there.
      peak: the highest rate, reached at step `warmup_steps`.
      total_steps: of the run.
      warmup_steps: over which the rate rises linearly from 0. Step 0 then trains with rate 0, as in the reference.
    """
    if name not in NAMES:
        raise TlxError(f"schedule is {name!r}; tlx has {listed(NAMES)}.")
    if warmup_steps >= total_steps:
        raise TlxError(f"a warm-up of {warmup_steps} steps leaves nothing of a run of {total_steps}.")
    after = total_steps - warmup_steps
    decay = {
        "constant": lambda: optax.constant_schedule(peak),
        "linear": lambda: optax.linear_schedule(peak, 0.0, after),
        "cosine": lambda: optax.cosine_decay_schedule(peak, after),
    }[name]()
    if warmup_steps == 0:
        return decay
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup_steps), decay], [warmup_steps])
