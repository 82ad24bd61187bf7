"""How a model learns, from a config: groups, phases, losses, optimizers, the steps."""

import dataclasses
import functools
from collections.abc import Callable, Collection
from typing import Any

import jax
import numpy as np
import optax
from ml_collections import ConfigDict

from tlx.adapters.lora import host
from tlx.data.examples import ExampleSet
from tlx.errors import TlxError, listed
from tlx.methods.finetune import FineTune, LossSettings
from tlx.models.forward import ModelState
from tlx.models.heads import Head
from tlx.models.model import Model
from tlx.optim.groups import make_optimizer
from tlx.optim.optimizers import SETTINGS
from tlx.params.partition import FROZEN
from tlx.params.paths import flatten
from tlx.recipes.datasets import Datasets
from tlx.recipes.inputs import Inputs
from tlx.recipes.parameters import GroupAssignment, parameter_groups
from tlx.recipes.phases import PhasePlan, plan_phases
from tlx.recipes.regularise import plan_anchors, plan_average, plan_penalty, plan_perturbation, plan_recalibration
from tlx.recipes.schedule import check_schedules, factors_of, loop_schedule, rate_of, run_factor
from tlx.training.loop import LoopSchedule
from tlx.training.phases import Phase, carried, trainable_since
from tlx.training.state import State, assign_players, init_state
from tlx.training.step import make_train_step


@dataclasses.dataclass(frozen=True)
class TrainSetup:
    """How a model learns.

    choices: what learns, by phase. rate: the run's, by step. begin: from parameters, and `model_state` of a model that
    has one, to the first state. phases: pure functions. anchors: the constants that the step takes; None without any.
    """

    assignments: tuple[GroupAssignment, ...]
    schedule: LoopSchedule
    rate: optax.Schedule
    begin: Callable[..., State]
    phases: tuple[Phase, ...]
    anchors: Any

    @property
    def assigned(self) -> dict[str, str]:
        """The group of each path; of what learns in some phase only, its group then."""
        found: dict[str, str] = {}
        for assignment in self.assignments:
            found |= {path: group for path, group in assignment.assigned.items() if found.get(path, FROZEN) == FROZEN}
        return found


def train_setup(
    config: ConfigDict,
    model: Model,
    params: Any,
    datasets: Datasets,
    inputs: Inputs,
    initialized: Collection[str] = (),
    sweep: optax.Schedule | None = None,
    model_state: ModelState | None = None,
) -> TrainSetup:
    """Groups, phases, optimizers, method and steps.

    Args:
      config: the run's.
      model: with its heads.
      params: arrays or their shapes; nothing is computed.
      sets: what is learnt from.
      inputs: what reads it.
      drawn: the paths that did not come with the checkpoint.
      sweep: the learning rate by step, in place of the config's; of several phases the first is all there is then.
      model_state: of a model that has one; its paths alone are read.
    """
    limit = getattr(model.backbone.config, "max_length", None)
    if limit is not None and config.data.max_length > limit:
        raise TlxError(f"config.data.max_length is {config.data.max_length}; this checkpoint has {limit} positions.")
    schedule = loop_schedule(
        config, len(datasets.examples["train"]), datasets.head.kind, datasets.head.labels, datasets.head.outputs
    )
    plans = plan_phases(config, model.backbone.config.num_blocks, schedule.steps_per_epoch, schedule.total)
    check_schedules(config, plans)
    plans = plans if sweep is None else plans[:1]
    assignments = [parameter_groups(plan.config, model, params, factors_of(plan, schedule.total)) for plan in plans]
    since = trainable_since([assignment.assigned for assignment in assignments], [plan.first for plan in plans])
    rates = [_factor(plan, schedule, sweep) for plan in plans]
    losses = loss_settings(config.loss, datasets.head, datasets.examples["train"])
    prepare = inputs.training(datasets.head)
    begins, phases = [], []
    for plan, assignment, factor, begun in zip(plans, assignments, rates, since, strict=True):
        method = FineTune(model, {"default": "label"}, prepare, losses)
        still = frozen_parts(model, assignment.assigned, model_state or {})
        begin, step = _plan_phase(plan.config, model, params, method, schedule, assignment, factor, begun, still)
        begins.append(begin)
        recalibrate = plan_recalibration(plan.config, method, schedule, still) if model_state else None
        phases.append(Phase(plan.first, _entered(begin), step, recalibrate=recalibrate))
    setup = TrainSetup(tuple(assignments), schedule, rate_of(plans, rates), begins[0], tuple(phases), None)
    anchors = plan_anchors(config, params, setup.assigned, initialized)
    return dataclasses.replace(setup, anchors=anchors, rate=sweep or setup.rate)


def _factor(plan: PhasePlan, schedule: LoopSchedule, sweep: optax.Schedule | None) -> optax.Schedule:
    """The factor of a phase's learning rate by step."""
    if sweep is not None:
        peak = plan.config.optimizer.learning_rate
        return lambda step: sweep(step) / peak
    return run_factor(plan.config, schedule, factors_of(plan, schedule.total)(plan.config.optimizer.schedule))


def _plan_phase(
    config: ConfigDict, model: Model, params: Any, method: FineTune, schedule: LoopSchedule, assignment: GroupAssignment,
    factor: optax.Schedule, since: dict[str, int], frozen: tuple[str, ...],
) -> tuple[Callable[..., State], Callable[..., Any]]:  # fmt: skip
    """From parameters to the state with which a phase would begin a run, and its step."""
    player_of, average = (
        assign_players(params, assignment.assigned, method.players),
        plan_average(config.average, schedule),
    )
    optimizer = make_optimizer(
        params, assignment.rules, assignment.groups, learning_rate=config.optimizer.learning_rate, schedule=factor,
        multipliers=assignment.multipliers, since=since, kinds=model.backbone.kinds,
        name=config.optimizer.name, **{setting: config.optimizer[setting] for setting in SETTINGS},
    )  # fmt: skip
    _, method_state = method.init(jax.random.key(config.seed))
    begin = functools.partial(
        init_state, player_of=player_of, optimizers={"model": optimizer}, method_state=method_state,
        averaged=average is not None,
    )  # fmt: skip
    step = make_train_step(
        method, {"model": optimizer}, player_of,
        clip=_bound(config, "clip"), clip_value=_bound(config, "clip_value"), accumulate=config.train.accumulate,
        perturbation=plan_perturbation(config.sam), penalty=plan_penalty(config.l2_sp), average=average, total_steps=schedule.total,
        frozen=frozen,
    )  # fmt: skip
    return begin, step


def _bound(config: ConfigDict, name: str) -> float | None:
    """A bound of the gradient; None: none."""
    bound = config.optimizer[name]
    if not bound >= 0:
        raise TlxError(f"config.optimizer.{name} is {bound}; it is above 0, or 0 for none.")
    return bound or None


def _entered(begin: Callable[..., State]) -> Callable[[State], State]:
    return lambda state: carried(state, begin(state.params))


def loss_settings(config: ConfigDict, head: Head, train: ExampleSet) -> LossSettings:
    """Smoothing and class weights; the balanced ones are counted in the training split."""
    given = tuple(float(weight) for weight in config.class_weights)
    if not 0 <= config.label_smoothing < 1:
        raise TlxError(f"config.loss.label_smoothing is {config.label_smoothing}; it is at least 0 and below 1.")
    if head.kind not in ("classification", "tagging") and config.label_smoothing:
        raise TlxError(f"config.loss.label_smoothing is of classes and tags; this head's kind is {head.kind!r}.")
    if head.kind == "regression" and (given or config.balanced):
        raise TlxError("config.loss: a regression has no classes to weigh.")
    if given and (config.balanced or len(given) != head.outputs):
        raise TlxError(
            f"config.loss.class_weights has {len(given)} weights; it is one for each of the {head.outputs} classes "
            f"({listed(head.labels)}), or none with config.loss.balanced."
        )
    if config.balanced:
        labels = train.labels
        if head.kind == "multilabel":
            yes = np.maximum(labels.sum(axis=0), 1)
            given = tuple(((len(labels) - yes) / yes).tolist())
        else:
            counts = np.bincount(labels, minlength=head.outputs)
            given = tuple((len(labels) / (head.outputs * np.maximum(counts, 1))).tolist())
    return LossSettings(config.label_smoothing, given)


def frozen_blocks(model: Model, groups: dict[str, str]) -> tuple[str, ...]:
    """The blocks in which nothing learns, no adapter on them either."""
    prefixes = [f"backbone/{path}" for path in model.backbone.config.block_paths]
    return tuple(prefix for prefix in prefixes if all(group == FROZEN for group in _within(prefix, groups)))


def frozen_parts(model: Model, groups: dict[str, str], model_state: ModelState) -> tuple[str, ...]:
    """The frozen blocks, and every module with a state of its own in which nothing learns, so that its statistics stay;
    of one without parameters the smallest part around it that has some decides."""
    found = list(frozen_blocks(model, groups))
    for state in model_state.values():
        for module in dict.fromkeys(path.rpartition("/")[0] for path in flatten(state)):
            around, within = module, _within(module, groups)
            while around and not within:
                around = around.rpartition("/")[0]
                within = _within(around, groups)
            if within and all(group == FROZEN for group in within):
                found.append(module)
    return tuple(found)


def _within(prefix: str, groups: dict[str, str]) -> list[str]:
    """The groups of what stands below a path, adapters included."""
    return [group for path, group in groups.items() if host(path).startswith(f"{prefix}/")]
