"""Learning-rate schedules by name: a table from each name to its settings and the function that builds it.

The definitions are optax's where it has the schedule, but every learning rate is computed to the precision of its
dtype: decays use the number of remaining steps, and the warm-up uses the number of steps taken. optax computes
1 − step / total instead, which loses all but four digits of float32 at the last of 10,000 steps.
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
    """A schedule in the table.

    Attributes:
      defaults: the settings of the schedule with their default values.
      build: `(peak, after, warmup, **settings) -> schedule`, where `after` and `warmup` are the numbers of steps after
        and of the warm-up. The schedule takes the number of steps since the warm-up, which may be negative.
      rises: whether the schedule includes the warm-up; it then takes the run's step.
    """

    defaults: Mapping[str, Any]
    build: Build
    rises: bool = False


def widest(step: Any) -> jax.Array:
    """Converts a step count to JAX's default integer dtype.

    With x64 enabled this is int64, so learning rates are computed in float64 (an int32 divided by a Python number is
    float32 even then); otherwise it is int32.
    """
    return jnp.asarray(step).astype(int)


def _remaining(step: Any, steps: int) -> Any:
    """The fraction of the steps that remains: 1 up to step 0, 0 from `steps` on. The numerator is exact."""
    return (steps - jnp.clip(step, 0, steps)) / max(steps, 1)


def _polynomial(peak: float, after: int, warmup: int, *, final_fraction: float, power: float = 1.0) -> optax.Schedule:
    """The same function as `optax.polynomial_schedule`."""
    del warmup
    final = final_fraction * peak
    return lambda step: final + (peak - final) * _remaining(step, after) ** power


def _cosine(first: float, last: float, steps: int) -> optax.Schedule:
    """A cosine from one rate to another, as sin²(π (1 − x) / 2) = (1 + cos πx) / 2 to avoid cancellation near 0."""
    low, high = min(first, last), max(first, last)

    def at(step: Any) -> Any:
        remaining = _remaining(step, steps) if first > last else _remaining(steps - step, steps)
        return low + (high - low) * jnp.sin(jnp.pi / 2 * remaining) ** 2

    return at


def _restarts(
    peak: float, after: int, warmup: int, *, final_fraction: float, cycles: int, cycle_length: float, cycle_peak: float
) -> optax.Schedule:
    """SGDR (Loshchilov & Hutter 2017, eq. 5), as `optax.sgdr_schedule` without its warm-ups."""
    del warmup
    if cycles < 1 or cycle_length <= 0 or cycle_peak <= 0:
        raise TlxError(
            f"cosine_restarts needs at least 1 cycle and factors above 0; found cycles={cycles}, "
            f"cycle_length={cycle_length} and cycle_peak={cycle_peak}."
        )
    weights = [] if cycles > after else [cycle_length**index for index in range(cycles)]
    total = sum(weights)
    ends = [round(after * weight / total) for weight in itertools.accumulate(weights)]
    lengths = [end - start for start, end in itertools.pairwise([0, *ends])]
    if min(lengths, default=0) < 1:
        raise TlxError(f"{after} steps cannot be split into {cycles} cycles; the shortest would have no step.")
    final = final_fraction * peak
    schedules = [_cosine(peak * cycle_peak**index, final, length) for index, length in enumerate(lengths)]
    return optax.join_schedules(schedules, ends[:-1])


def _one_cycle(peak: float, after: int, warmup: int, *, div_factor: float, final_div_factor: float) -> optax.Schedule:
    """`optax.cosine_onecycle_schedule` (Smith & Topin 2018); the rise takes the steps of the warm-up."""
    if not (div_factor > 0 and final_div_factor > 0):
        raise TlxError(
            f"one_cycle's div_factor is {div_factor} and final_div_factor {final_div_factor}; both must be above 0."
        )
    low = peak / div_factor
    fall = _cosine(peak, low / final_div_factor, after)
    return optax.join_schedules([_cosine(low, peak, warmup), fall], [warmup]) if warmup else fall


def _exponential(staircase: bool) -> Build:
    """`optax.exponential_decay` with an `end_value`, with or without `staircase`."""

    def build(peak: float, after: int, warmup: int, *, final_fraction: float, drop: float, drop_every: int) -> Any:
        del warmup
        every = max(1, round(after / 3)) if drop_every is None else drop_every
        if every < 1 or not 0 < drop <= 1:
            raise TlxError(
                f"the schedule's drop is {drop} and drop_every {every}; drop must be above 0 and at most 1, and "
                "drop_every at least 1."
            )

        def at(step: Any) -> Any:
            since = jnp.maximum(step, 0)
            return jnp.maximum(peak * drop ** (since // every if staircase else since / every), final_fraction * peak)

        return at

    return build


def _inverse_sqrt(peak: float, after: int, warmup: int) -> optax.Schedule:
    """peak · √(w / (w + steps since the warm-up)) with w = max(warmup, 1) (Vaswani et al. 2017, eq. 3)."""
    del after
    timescale = max(warmup, 1)
    return lambda step: peak * jnp.sqrt(timescale / (timescale + jnp.maximum(step, 0)))


def _inverse(peak: float, after: int, warmup: int, *, gamma: float, power: float) -> optax.Schedule:
    """peak / (1 + gamma · p)^power, p the finished fraction of the steps after the warm-up.

    With 10 and 0.75 it is the rate of DANN (Ganin et al. 2016, section 5.2.2) and of the methods that follow it.
    """
    del warmup
    if not gamma >= 0:
        raise TlxError(f"the schedule's gamma is {gamma}; it must be at least 0.")
    return lambda step: peak * (1 + gamma * jnp.maximum(step, 0) / after) ** -power


FINAL = {"final_fraction": 0.0}
SCHEDULES: Mapping[str, Named] = {
    "constant": Named({}, lambda peak, after, warmup: optax.constant_schedule(peak)),
    "linear": Named(FINAL, _polynomial),
    "cosine": Named(
        FINAL, lambda peak, after, warmup, *, final_fraction: _cosine(peak, final_fraction * peak, after)
    ),
    "polynomial": Named({**FINAL, "power": 1.0}, _polynomial),
    "inverse_sqrt": Named({}, _inverse_sqrt),
    "inverse": Named({"gamma": 10.0, "power": 0.75}, _inverse),
    "cosine_restarts": Named({**FINAL, "cycles": 1, "cycle_length": 1.0, "cycle_peak": 1.0}, _restarts),
    "one_cycle": Named({"div_factor": 25.0, "final_div_factor": 1e4}, _one_cycle, rises=True),
    "step": Named({**FINAL, "drop": 0.1, "drop_every": None}, _exponential(staircase=True)),
    "exponential": Named({**FINAL, "drop": 0.1, "drop_every": None}, _exponential(staircase=False)),
}  # fmt: skip
SETTINGS = tuple(dict.fromkeys(name for schedule in SCHEDULES.values() for name in schedule.defaults))


def make_schedule(name: str, peak: float, total_steps: int, warmup_steps: int = 0, **settings: Any) -> optax.Schedule:
    """Creates a learning-rate schedule: the learning rate as a function of the step.

    Args:
      name: the shape of the schedule after the warm-up:
        `constant`: the peak;
        `linear`, `cosine`, `polynomial`: decay to `final_fraction · peak` at `total_steps`;
        `cosine_restarts`: `cycles` cosine decays, one after the other;
        `step`, `exponential`: decay by the factor `drop` every `drop_every` steps, at once or continuously;
        `inverse_sqrt`: peak · √(w / step) with w = max(warmup_steps, 1);
        `inverse`: peak / (1 + gamma · p)^power, p the finished fraction of the steps after the warm-up;
        `one_cycle`: a cosine rise from peak / div_factor over the warm-up, then a cosine decay to
        peak / div_factor / final_div_factor.
      peak: the highest learning rate, reached at step `warmup_steps`.
      total_steps: the number of steps of the run.
      warmup_steps: the number of steps over which the learning rate rises linearly from 0. Step 0 then has learning
        rate 0, as in transformers.
      settings: settings of the schedules, by the names in `SETTINGS`; None for the default. Settings that the schedule
        does not have are ignored.
        `final_fraction`: the lowest learning rate, as a fraction of the peak;
        `power`: the exponent of `polynomial` (1 by default) and `inverse` (0.75);
        `gamma`: see `inverse`, 10 by default;
        `cycles`: the number of cycles of `cosine_restarts`;
        `cycle_length`, `cycle_peak`: the length and the peak of a cycle relative to the previous cycle;
        `drop`, `drop_every`: see `step`; `drop_every` is a third of the steps after the warm-up by default;
        `div_factor`, `final_div_factor`: see `one_cycle`.

    Raises:
      TlxError: if the schedule or a setting does not exist, if a setting is out of range, or if the warm-up is as long
        as the run.
    """
    named = schedule_named("schedule", name)
    if unknown := sorted(set(settings) - set(SETTINGS)):
        raise TlxError(
            f"no schedule has a setting {listed(unknown)}; the settings are {listed(SETTINGS, most=len(SETTINGS))}."
        )
    if warmup_steps >= total_steps:
        raise TlxError(f"a warm-up of {warmup_steps} steps must be shorter than the run of {total_steps} steps.")
    values = {key: default if settings.get(key) is None else settings[key] for key, default in named.defaults.items()}
    decay = named.build(peak, total_steps - warmup_steps, warmup_steps, **values)
    if named.rises or warmup_steps == 0:
        return decay
    return optax.join_schedules([lambda step: peak * (step / warmup_steps), decay], [warmup_steps])


def schedule_named(what: str, name: str) -> Named:
    """Returns the schedule of this name.

    Args:
      what: what the name is, for messages.
      name: the name.

    Raises:
      TlxError: if there is no such schedule.
    """
    if name not in SCHEDULES:
        raise TlxError(f"{what} is {name!r}; tlx has {listed(SCHEDULES, most=len(SCHEDULES))}.")
    return SCHEDULES[name]


def check_settings(settings: Mapping[str, Any], used: Mapping[str, str]) -> None:
    """Checks that every setting is used by at least one of the schedules in use.

    Args:
      settings: the settings by name; None for a setting that is not set.
      used: the names of the schedules, by the place that names them, such as `config.optimizer.schedule`.

    Raises:
      TlxError: if a setting is not None and no schedule in use has it.
    """
    named = {name: schedule_named(where, name) for where, name in used.items()}
    for setting, value in settings.items():
        if value is None or any(setting in schedule.defaults for schedule in named.values()):
            continue
        takers = [name for name, schedule in SCHEDULES.items() if setting in schedule.defaults]
        raise TlxError(
            f"the schedule setting {setting!r} is {value!r}, which applies only to {listed(takers)}; "
            f"the schedule is {listed(sorted(named))}."
        )
