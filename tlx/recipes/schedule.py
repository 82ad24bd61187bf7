"""What happens when, from a config: the loop's schedule, the phases, and the learning rate by step."""

from collections.abc import Mapping, Sequence

import optax
from ml_collections import ConfigDict

from tlx.errors import TlxError, listed
from tlx.evaluation.metrics import ENTITY, default_monitor, higher_is_better, metric_names
from tlx.optim.schedules import SETTINGS, check_settings, make_schedule
from tlx.recipes.parameters import Schedules
from tlx.recipes.phases import PhasePlan
from tlx.recipes.regularise import averaged_rate
from tlx.training.loop import LoopSchedule
from tlx.training.tasks import Task, full_name


def loop_schedule(config: ConfigDict, tasks: Mapping[str, Task]) -> LoopSchedule:
    """What the loop does when. An epoch is as many steps as the longest of the tasks' streams has."""
    train = config.train
    steps_per_epoch = max(task.stream.steps_per_epoch for task in tasks.values())
    first = next(iter(tasks.values()))
    default = first.metric(f"validation/{default_monitor(first.head.kind, first.head.labels)}")
    monitor = full_name(train.monitor or default, tasks)
    return LoopSchedule(
        total=max(1, round(train.epochs * steps_per_epoch)),
        steps_per_epoch=steps_per_epoch,
        examples_per_step=sum(task.batch_size for task in tasks.values()),
        evaluate_every=max(1, round(train.evaluate_every * steps_per_epoch)),
        log_every=train.log_every,
        monitor=monitor,
        mode="max" if _maximised(monitor, train.monitor, tasks) else "min",
        patience=train.patience,
    )


def _maximised(monitor: str, said: str | None, tasks: Mapping[str, Task]) -> bool:
    """Whether the metric that selects the checkpoint is better when it is higher.

    Raises:
      TlxError: there is none of this name.
    """
    task = tasks[monitor.split("/")[0] if monitor.count("/") > 1 else next(iter(tasks))]
    head, name = task.head, monitor.rpartition("/")[2]
    metrics = ("loss", *metric_names(head.kind, head.labels, head.outputs))
    if monitor != task.metric(f"validation/{name}") or name not in metrics:
        what = f"{head.kind} with {head.outputs} output{'s' if head.outputs > 1 else ''}"
        what = f"{head.kind} whose tags form no entities" if head.kind == "tagging" and name in ENTITY else what
        known = listed((task.metric(f"validation/{metric}") for metric in metrics), most=len(metrics))
        raise TlxError(f"config.train.monitor is {said!r}; a {what} has {known}.")
    return higher_is_better(head.kind, name)


def factors(config: ConfigDict, total: int) -> Schedules:
    """From a schedule's name to the factor of the rate by step, at most 1, over so many steps."""
    optimizer = config.optimizer
    settings = {name: optimizer[name] for name in SETTINGS}
    warmup = optimizer.warmup_steps
    warmup = round(optimizer.warmup_fraction * total) if warmup is None else warmup

    def factor(name: str) -> optax.Schedule:
        return make_schedule(name, 1.0, total, warmup, **settings)

    return factor


def check_schedules(config: ConfigDict, plans: Sequence[PhasePlan]) -> None:
    """Refuses a schedule that tlx has not, and a field of `config.optimizer` that is of other schedules than the run's,
    its groups' and its phases'."""
    used = {"config.optimizer.schedule": config.optimizer.schedule}
    for name, group in config.params.groups.items():
        if dict(group).get("schedule") is not None:
            used[f"config.params.groups.{name}.schedule"] = dict(group)["schedule"]
    for index, plan in enumerate(plans):
        used[f"the schedule of phase {index}"] = plan.config.optimizer.schedule
    check_settings({name: config.optimizer[name] for name in SETTINGS}, used)


def factors_of(plan: PhasePlan, total: int) -> Schedules:
    """The same in a phase, by the run's steps: over the phase where it has a schedule of its own, else over the run."""
    if not plan.own:
        return factors(plan.config, total)
    within = factors(plan.config, plan.stop - plan.first)

    def shifted(name: str) -> optax.Schedule:
        inner = within(name)
        return lambda step: inner(step - plan.first)

    return shifted


def run_factor(config: ConfigDict, schedule: LoopSchedule, factor: optax.Schedule) -> optax.Schedule:
    """The factor of the run's rate by step, with SWA's constant rate where the config asks for it."""
    if config.average.learning_rate is None:
        return factor
    peak = config.optimizer.learning_rate
    rate = averaged_rate(config.average, schedule, lambda step: peak * factor(step))
    return lambda step: rate(step) / peak


def rate_of(plans: Sequence[PhasePlan], by_phase: Sequence[optax.Schedule]) -> optax.Schedule:
    """The run's learning rate by step, for the log. by_phase: the factor in each phase."""

    def rate(step: int) -> float:
        index = max(index for index, plan in enumerate(plans) if plan.first <= step)
        return float(plans[index].config.optimizer.learning_rate * by_phase[index](step))

    return rate
