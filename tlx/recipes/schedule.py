"""Makes the loop's schedule and the learning rate by step from a config."""

import re
from collections.abc import Mapping, Sequence

import optax
from ml_collections import ConfigDict

from tlx.errors import TlxError, listed
from tlx.evaluation.metrics import ENTITY, higher_is_better, metric_names
from tlx.optim.schedules import SETTINGS, check_settings, make_schedule
from tlx.recipes.parameters import Schedules
from tlx.recipes.phases import PhasePlan
from tlx.recipes.regularise import averaged_rate
from tlx.recipes.selection import validator_of
from tlx.training.loop import LoopSchedule
from tlx.training.saves import SaveSchedule
from tlx.training.tasks import JOINT, Task, full_name, main_metric


def loop_schedule(config: ConfigDict, tasks: Mapping[str, Task]) -> LoopSchedule:
    """Returns the loop's schedule. An epoch has as many steps as the longest stream of the tasks."""
    train = config.train
    streams = {task.stream_name: task.stream for task in tasks.values()}
    steps_per_epoch = max(stream.steps_per_epoch for stream in streams.values())
    first = next(iter(tasks.values()))
    default = main_metric(first, "validation") if len(tasks) == 1 else f"validation/{JOINT}"
    monitor = full_name(train.monitor or default, tasks)
    validator = validator_of(monitor, first.head, config.data.target)
    return LoopSchedule(
        total=max(1, round(train.epochs * steps_per_epoch)),
        steps_per_epoch=steps_per_epoch,
        examples_per_step=sum(stream.batch_size for stream in streams.values()),
        evaluate_every=max(1, round(train.evaluate_every * steps_per_epoch)),
        log_every=train.log_every,
        monitor=monitor,
        mode="max" if (validator.higher if validator else _maximized(monitor, train.monitor, tasks)) else "min",
        patience=train.patience,
        saves=save_schedule(train.save_every, train.keep, steps_per_epoch),
        by_task={name: main_metric(task, "validation") for name, task in tasks.items()} if len(tasks) > 1 else {},
    )


SECONDS = {"s": 1, "m": 60, "h": 3600}  # of the units of `config.train.save_every`


def save_schedule(every: str, keep: int, steps_per_epoch: int) -> SaveSchedule:
    """Returns when checkpoints are saved.

    Args:
      every: `config.train.save_every`.
      keep: `config.train.keep`.
      steps_per_epoch: number of steps of an epoch.

    Raises:
      TlxError: if `every` has another form.
    """
    if not every:
        return SaveSchedule(keep=keep)
    matched = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?) ?(s|m|h|steps?|epochs?|)", every.strip())
    amount, unit = (float(matched[1]), matched[2].rstrip("s") or matched[2]) if matched else (0.0, "")
    if amount <= 0 or (unit in ("step", "") and amount != int(amount)):
        raise TlxError(
            f"config.train.save_every is {every!r}; it is a number of steps, epochs, seconds, minutes or hours, such "
            "as '500 steps', '0.5 epochs', '90s', '10m' or '1h', or '' to save at each evaluation."
        )
    if unit in SECONDS:
        return SaveSchedule(seconds=amount * SECONDS[unit], keep=keep)
    return SaveSchedule(steps=max(1, round(amount * (steps_per_epoch if unit == "epoch" else 1))), keep=keep)


def _maximized(monitor: str, config_value: str | None, tasks: Mapping[str, Task]) -> bool:
    """Whether the metric that selects the checkpoint is better when it is higher.

    Args:
      monitor: its full name.
      config_value: `config.train.monitor`, for the error message.
      tasks: tasks by name.

    Raises:
      TlxError: if there is no metric of this name.
    """
    if len(tasks) > 1 and monitor == f"validation/{JOINT}":
        return True
    task = tasks[monitor.split("/")[0] if monitor.count("/") > 1 else next(iter(tasks))]
    head, name = task.head, monitor.rpartition("/")[2]
    metrics = ("loss", *metric_names(head.kind, head.labels, head.outputs))
    if monitor != task.metric(f"validation/{name}") or name not in metrics:
        what = f"{head.kind} with {head.outputs} output{'s' if head.outputs > 1 else ''}"
        what = f"{head.kind} whose tags form no entities" if head.kind == "tagging" and name in ENTITY else what
        known = listed((task.metric(f"validation/{metric}") for metric in metrics), most=len(metrics))
        raise TlxError(f"config.train.monitor is {config_value!r}; a {what} has {known}.")
    return higher_is_better(head.kind, name)


def factors(config: ConfigDict, total: int) -> Schedules:
    """Returns a function from a schedule's name to the factor of the learning rate by step, which is at most 1.

    Args:
      config: the run's config, of which the fields of `optimizer` are used.
      total: number of steps of the schedule.
    """
    optimizer = config.optimizer
    settings = {name: optimizer[name] for name in SETTINGS}
    warmup = optimizer.warmup_steps
    warmup = round(optimizer.warmup_fraction * total) if warmup is None else warmup

    def factor(name: str) -> optax.Schedule:
        return make_schedule(name, 1.0, total, warmup, **settings)

    return factor


def check_schedules(config: ConfigDict, plans: Sequence[PhasePlan]) -> None:
    """Raises `TlxError` for an unknown schedule, or a schedule's setting that no schedule of the run has.

    The schedules of a run are those of the optimizer, its groups and its phases.
    """
    used = {"config.optimizer.schedule": config.optimizer.schedule}
    for name, group in config.params.groups.items():
        if dict(group).get("schedule") is not None:
            used[f"config.params.groups.{name}.schedule"] = dict(group)["schedule"]
    for index, plan in enumerate(plans):
        used[f"the schedule of phase {index}"] = plan.config.optimizer.schedule
    check_settings({name: config.optimizer[name] for name in SETTINGS}, used)


def factors_of(plan: PhasePlan, total: int) -> Schedules:
    """Returns `factors` for a phase, as functions of the run's step.

    The schedule covers the phase if the phase has its own schedule, otherwise the run.
    """
    if not plan.own_schedule:
        return factors(plan.config, total)
    phase_factors = factors(plan.config, plan.stop - plan.first)

    def shifted(name: str) -> optax.Schedule:
        factor = phase_factors(name)
        return lambda step: factor(step - plan.first)

    return shifted


def run_factor(config: ConfigDict, schedule: LoopSchedule, factor: optax.Schedule) -> optax.Schedule:
    """Returns the factor of the run's learning rate by step, with the constant rate of SWA if the config has one."""
    if config.average.learning_rate is None:
        return factor
    peak = config.optimizer.learning_rate
    rate = averaged_rate(config.average, schedule, lambda step: peak * factor(step))
    return lambda step: rate(step) / peak


def rate_of(plans: Sequence[PhasePlan], by_phase: Sequence[optax.Schedule]) -> optax.Schedule:
    """Returns the run's learning rate by step, for the log. `by_phase` has the factor by step of each phase."""

    def rate(step: int) -> float:
        index = max(index for index, plan in enumerate(plans) if plan.first <= step)
        return float(plans[index].config.optimizer.learning_rate * by_phase[index](step))

    return rate
