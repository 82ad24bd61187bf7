"""Learning-rate schedules by name: one table from a name to the settings that it takes and how it is built.

They are optax's where it has them, but written so that every rate has the precision of its dtype: what falls, in the
steps that are left, and the warm-up in those that were taken. optax computes 1 − step / total for both, which cancels
all but four digits of float32 at the last of 10,000 steps.
"""

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from tlx.errors import TlxError, listed

Build = Callable[..., optax.Schedule]


@dataclasses.dataclass(frozen=True)
class Named:
    """defaults: of every setting that the schedule takes. build: `(peak, after, warmup, **settings)`, with the steps
    after the warm-up and of it, to the rate by the steps since the warm-up, of which it may be asked for negative ones.
    rises: whether the schedule rises by itself, over the steps of the warm-up; it is then asked by the run's step."""

    defaults: Mapping[str, Any]
    build: Build
    rises: bool = False


def widest(step: Any) -> jax.Array:
    """A count of steps in JAX's default integer type: int64 under x64, so that what is computed from it is float64 (an
    int32 divided by a number is float32 even there), and otherwise int32."""
    return jnp.asarray(step).astype(int)


def _left(step: Any, steps: int) -> Any:
    """The share of the steps that is left, 1 up to step 0, 0 from `steps` on; exact before the division."""
    return (steps - jnp.clip(step, 0, steps)) / max(steps, 1)


def _polynomial(peak: float, after: int, warmup: int, *, final_fraction: float, power: float = 1.0) -> optax.Schedule:
    """`optax.polynomial_schedule`."""
    del warmup
    final = final_fraction * peak
    return lambda step: final + (peak - final) * _left(step, after) ** power


def _cosine(first: float, last: float, steps: int) -> optax.Schedule:
    """From one rate to another; (1 + cos πx) / 2 = sin²(π (1 − x) / 2), which does not cancel at the lower one."""
    low, high = min(first, last), max(first, last)

    def at(step: Any) -> Any:
        share = _left(step, steps) if first > last else _left(steps - step, steps)
        return low + (high - low) * jnp.sin(jnp.pi / 2 * share) ** 2

    return at


def _restarts(
    peak: float, after: int, warmup: int, *, final_fraction: float, cycles: int, cycle_length: float, cycle_peak: float
) -> optax.Schedule:
    """SGDR (Loshchilov & Hutter 2017, eq. 5), as `optax.sgdr_schedule` without its warm-ups."""
    del warmup
    if cycles < 1 or cycle_length <= 0 or cycle_peak <= 0:
        raise TlxError(
            f"cosine_restarts has {cycles} cycles, each {cycle_length} times as long and {cycle_peak} times as high as "
            "the one before; it takes at least 1 cycle and factors above 0."
        )
    parts = [] if cycles > after else [cycle_length**index for index in range(cycles)]
    whole = sum(parts)
    ends = [round(after * part / whole) for part in itertools.accumulate(parts)]
    lengths = [end - start for start, end in itertools.pairwise([0, *ends])]
    if min(lengths, default=0) < 1:
        raise TlxError(f"{after} steps cannot be split into {cycles} cycles, of which the shortest would have none.")
    final = final_fraction * peak
    each = [_cosine(peak * cycle_peak**index, final, length) for index, length in enumerate(lengths)]
    return optax.join_schedules(each, ends[:-1])


def _one_cycle(peak: float, after: int, warmup: int, *, div_factor: float, final_div_factor: float) -> optax.Schedule:
    """`optax.cosine_onecycle_schedule` (Smith & Topin 2018), rising over the steps of the warm-up."""
    if not (div_factor > 0 and final_div_factor > 0):
        raise TlxError(f"one_cycle's div_factor is {div_factor}, final_div_factor {final_div_factor}; both above 0.")
    low = peak / div_factor
    fall = _cosine(peak, low / final_div_factor, after)
    return optax.join_schedules([_cosine(low, peak, warmup), fall], [warmup]) if warmup else fall


def _exponential(whole: bool) -> Build:
    """`optax.exponential_decay` with its end_value; whole: with staircase, in whole intervals."""

    def build(peak: float, after: int, warmup: int, *, final_fraction: float, drop: float, drop_every: int) -> Any:
        del warmup
        every = max(1, round(after / 3)) if drop_every is None else drop_every
        if every < 1 or not 0 < drop <= 1:
            raise TlxError(
                f"the rate falls to {drop} of itself every {every} steps; that is above 0 and at most 1, every step or "
                "more."
            )

        def at(step: Any) -> Any:
            since = jnp.maximum(step, 0)
            return jnp.maximum(peak * drop ** (since // every if whole else since / every), final_fraction * peak)

        return at

    return build


def _inverse_sqrt(peak: float, after: int, warmup: int) -> optax.Schedule:
    """peak · √(w / (w + steps since the warm-up)) with w = max(warmup, 1) (Vaswani et al. 2017, eq. 3)."""
    del after
    timescale = max(warmup, 1)
    return lambda step: peak * jnp.sqrt(timescale / (timescale + jnp.maximum(step, 0)))


FINAL = {"final_fraction": 0.0}
SCHEDULES: Mapping[str, Named] = {
    "constant": Named({}, lambda peak, after, warmup: optax.constant_schedule(peak)),
    "linear": Named(FINAL, _polynomial),
    "cosine": Named(
        FINAL, lambda peak, after, warmup, *, final_fraction: _cosine(peak, final_fraction * peak, after)
    ),
    "polynomial": Named({**FINAL, "power": 1.0}, _polynomial),
    "inverse_sqrt": Named({}, _inverse_sqrt),
    "cosine_restarts": Named({**FINAL, "cycles": 1, "cycle_length": 1.0, "cycle_peak": 1.0}, _restarts),
    "one_cycle": Named({"div_factor": 25.0, "final_div_factor": 1e4}, _one_cycle, rises=True),
    "step": Named({**FINAL, "drop": 0.1, "drop_every": None}, _exponential(whole=True)),
    "exponential": Named({**FINAL, "drop": 0.1, "drop_every": None}, _exponential(whole=False)),
}  # fmt: skip
SETTINGS = tuple(dict.fromkeys(name for schedule in SCHEDULES.values() for name in schedule.defaults))


def make_schedule(name: str, peak: float, total_steps: int, warmup_steps: int = 0, **settings: Any) -> optax.Schedule:
    """The learning rate by step.

    Args:
      name: after the warm-up `constant`; `linear`, `cosine` or `polynomial` down to `final_fraction · peak` at
        `total_steps`; `cosine_restarts`, so many times; `step` and `exponential`, which fall to `drop` of the rate
        every `drop_every` steps; or `inverse_sqrt`, peak · √(w / step) with w = max(warmup_steps, 1). `one_cycle` rises
        in a cosine over the warm-up from peak / div_factor, and falls to that / final_div_factor.
      peak: the highest rate, reached at step `warmup_steps`.
      total_steps: of the run.
      warmup_steps: over which the rate rises linearly from 0. Step 0 then trains with rate 0, as in the reference.
      settings: a key of `SETTINGS` each; None or absent: the schedule's default. Those that it does not take are left
        out. final_fraction: of the peak, below which the rate does not fall. power: of the polynomial. cycles: of
        cosine_restarts; cycle_length, cycle_peak: of a cycle in units of the one before. drop_every: None: a
        third of the steps after the warm-up.

    Raises:
      TlxError: no such schedule or setting, a value that it cannot have, a warm-up as long as the run.
    """
    named = known("schedule", name)
    if unknown := sorted(set(settings) - set(SETTINGS)):
        raise TlxError(
            f"no schedule has a setting {listed(unknown)}; there are {listed(SETTINGS, most=len(SETTINGS))}."
        )
    if warmup_steps >= total_steps:
        raise TlxError(f"a warm-up of {warmup_steps} steps leaves nothing of a run of {total_steps}.")
    given = {key: default if settings.get(key) is None else settings[key] for key, default in named.defaults.items()}
    decay = named.build(peak, total_steps - warmup_steps, warmup_steps, **given)
    if named.rises or warmup_steps == 0:
        return decay
    return optax.join_schedules([lambda step: peak * (step / warmup_steps), decay], [warmup_steps])


def known(what: str, name: str) -> Named:
    """The schedule of this name, if tlx has it."""
    if name not in SCHEDULES:
        raise TlxError(f"{what} is {name!r}; tlx has {listed(SCHEDULES, most=len(SCHEDULES))}.")
    return SCHEDULES[name]


def check_settings(settings: Mapping[str, Any], used: Mapping[str, str]) -> None:
    """Refuses a setting that is given (not None) and that none of the schedules in use takes.

    used: each schedule's name by where it is named, such as `config.optimizer.schedule`.
    """
    named = {name: known(where, name) for where, name in used.items()}
    for setting, value in settings.items():
        if value is None or any(setting in schedule.defaults for schedule in named.values()):
            continue
        takers = [name for name, schedule in SCHEDULES.items() if setting in schedule.defaults]
        raise TlxError(
            f"the schedule setting {setting!r} is {value!r}, and is one of {listed(takers)}; "
            f"here the schedule is {listed(sorted(named))}."
        )
