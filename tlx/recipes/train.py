"""Makes the training setup from a config: groups, phases, losses, optimizers and training steps."""

import dataclasses
import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from tlx.errors import TlxError
from tlx.methods.api import Method
from tlx.modalities.api import Inputs
from tlx.models.forward import ModelState
from tlx.models.model import Model
from tlx.optim.groups import make_optimizer, rate_tables
from tlx.optim.optimizers import SETTINGS
from tlx.params.partition import FROZEN
from tlx.recipes.checks import check_max_length
from tlx.recipes.frozen import frozen_parts
from tlx.recipes.methods import AuxParams, MethodInputs, Methods, make_method
from tlx.recipes.parameters import GroupAssignment, parameter_groups
from tlx.recipes.phases import PhasePlan, plan_phases
from tlx.recipes.regularise import plan_anchors, plan_average, plan_penalty, plan_perturbation, plan_recalibration
from tlx.recipes.schedule import check_schedules, factors_of, loop_schedule, rate_of, run_factor
from tlx.training.diagnosis import make_diagnosis
from tlx.training.loop import LoopSchedule
from tlx.training.phases import Phase, carry_over, trainable_since
from tlx.training.state import State, assign_players, init_state
from tlx.training.step import Rates, make_train_step
from tlx.training.tasks import Task


@dataclasses.dataclass(frozen=True)
class TrainSetup:
    """How a model is trained.

    Attributes:
      assignments: for each phase, the parameters' groups and learning rate multipliers.
      schedule: when the loop evaluates, logs, saves and stops.
      rate: a function from the step to the learning rate, for the log.
      begin: a function `(params, model_state=None) -> State` that makes the initial state.
      phases: the phases. Their functions are pure and not jitted. A step is `(state, batch, key, anchors, rates)`.
      rates: for each phase, the `Rates` that its step takes.
      methods: the method of each phase.
      anchors: the starting point of L2-SP, a constant argument of the step; None without L2-SP.
    """

    assignments: tuple[GroupAssignment, ...]
    schedule: LoopSchedule
    rate: optax.Schedule
    begin: Callable[..., State]
    phases: tuple[Phase, ...]
    rates: tuple[Rates, ...]
    methods: tuple[Method, ...]
    anchors: Any

    @property
    def assigned(self) -> dict[str, str]:
        """The group of each path: that of the first phase in which it is trained, otherwise `frozen`."""
        return _assigned(self.assignments)


def train_setup(
    config: ConfigDict,
    model: Model,
    params: Any,
    tasks: Mapping[str, Task],
    inputs: Inputs,
    initialized: Collection[str] = (),
    sweep: optax.Schedule | None = None,
    methods: Methods | None = None,
    model_state: ModelState | None = None,
    sizes: Mapping[str, int] | None = None,
    sources: Sequence[int] = (),
) -> TrainSetup:
    """Makes the methods, the parameter groups, an optimizer for each player and the training steps.

    Args:
      config: the run's config.
      model: the model with its heads.
      params: the model's parameters, as arrays or as their shapes. Nothing is computed.
      tasks: tasks by name.
      inputs: makes the model's inputs from a batch.
      initialized: paths of the parameters that were initialized, not loaded from the checkpoint.
      sweep: a function from the step to the learning rate that replaces the config's schedule. Only the first phase
        is then made.
      methods: additional methods by name.
      model_state: the model's mutable collections, if it has any, as arrays or as their shapes.
      sizes: the number of examples of each stream besides those of the tasks.
      sources: the number of rows of each labelled set, if the training data is joined from several.

    Raises:
      TlxError: if a field of the config is invalid.
    """
    check_max_length(config, model)
    schedule = loop_schedule(config, tasks)
    plans = plan_phases(config, model.backbone.config.num_blocks, schedule.steps_per_epoch, schedule.total)
    check_schedules(config, plans)
    plans = plans if sweep is None else plans[:1]
    method_by_name = _make_methods(plans, model, tasks, inputs, methods, model_state or {}, sizes or {}, tuple(sources))
    aux = AuxParams(method_by_name, config.seed, params)
    all_params = {**params, "aux": aux.shapes} if aux.shapes else params
    assignments = [
        aux.only(plan.method, parameter_groups(plan.config, model, all_params, factors_of(plan, schedule.total)))
        for plan in plans
    ]
    since = trainable_since([assignment.assigned for assignment in assignments], [plan.first for plan in plans])
    factors = [_factor(plan, schedule, sweep) for plan in plans]
    build_phase = functools.partial(_build_phase, model, all_params, model_state or {}, aux, schedule)
    built = [
        build_phase(plan, method_by_name[plan.method], assignment, factor, trained_since)
        for plan, assignment, factor, trained_since in zip(plans, assignments, factors, since, strict=True)
    ]
    anchors = plan_anchors(config, all_params, _assigned(assignments), {*initialized, *aux.paths})
    return TrainSetup(
        tuple(assignments), schedule, sweep or rate_of(plans, factors), built[0].begin,
        tuple(phase.phase for phase in built), tuple(phase.rates for phase in built),
        tuple(method_by_name[plan.method] for plan in plans), anchors,
    )  # fmt: skip


def _make_methods(
    plans: Sequence[PhasePlan], model: Model, tasks: Mapping[str, Task], inputs: Inputs,
    methods: Methods | None, model_state: ModelState, sizes: Mapping[str, int],
    sources: tuple[int, ...],
) -> dict[str, Method]:  # fmt: skip
    """Makes each method that a phase uses, by name."""
    prepare = inputs.training(next(iter(tasks.values())).head)
    return {
        plan.method: make_method(
            plan.method, MethodInputs(plan.config, model, tasks, prepare, sizes, model_state, sources), methods
        )
        for plan in plans
    }


def _assigned(assignments: Sequence[GroupAssignment]) -> dict[str, str]:
    groups: dict[str, str] = {}
    for assignment in assignments:
        groups |= {path: group for path, group in assignment.assigned.items() if groups.get(path, FROZEN) == FROZEN}
    return groups


def _factor(plan: PhasePlan, schedule: LoopSchedule, sweep: optax.Schedule | None) -> optax.Schedule:
    """A function from the step to the factor of the phase's learning rate."""
    if sweep is not None:
        peak = plan.config.optimizer.learning_rate
        return lambda step: sweep(step) / peak
    return run_factor(plan.config, schedule, factors_of(plan, schedule.total)(plan.config.optimizer.schedule))


@dataclasses.dataclass(frozen=True)
class _Built:
    begin: Callable[..., State]
    phase: Phase
    rates: Rates


def _build_phase(
    model: Model, params: Any, model_state: ModelState, aux: AuxParams, schedule: LoopSchedule,
    plan: PhasePlan, method: Method, assignment: GroupAssignment, factor: optax.Schedule, since: dict[str, int],
) -> _Built:  # fmt: skip
    """Makes a phase, its rates, and the initial state of a run that began with it. `params` includes `aux`."""
    config, frozen = plan.config, frozen_parts(model, assignment.assigned, model_state)
    player_of = assign_players(params, assignment.assigned, method.players)
    average = plan_average(config.average, schedule)
    rates: dict[str, Any] = {
        "learning_rate": config.optimizer.learning_rate, "schedule": factor, "since": since,
    }  # fmt: skip
    optimizer = make_optimizer(
        params, assignment.rules, assignment.groups, multipliers=assignment.multipliers, kinds=model.backbone.kinds,
        name=config.optimizer.name, assigned=assignment.assigned, **rates,
        **{setting: config.optimizer[setting] for setting in SETTINGS},
    )  # fmt: skip
    optimizers = dict.fromkeys(method.players, optimizer)

    def begin(params: Any, model_state: ModelState | None = None) -> State:
        params = params if "aux" in params else aux.init(params)
        state = aux.state(plan.method)
        return init_state(params, player_of, optimizers, state, averaged=average is not None, model_state=model_state)

    step = make_train_step(
        method, optimizers, player_of,
        clip=_bound(config, "clip"), clip_value=_bound(config, "clip_value"), accumulate=config.train.accumulate,
        perturbation=plan_perturbation(config.sam), penalty=plan_penalty(config.l2_sp), average=average, frozen=frozen,
        max_skipped=config.train.max_skipped,
    )  # fmt: skip
    tables = rate_tables(assignment.assigned, assignment.groups, schedule.total, **rates)
    enter = functools.partial(_enter, begin, new_method=plan.begins_method)
    recalibrate = plan_recalibration(config, method, schedule, frozen) if model_state else None
    phase = Phase(
        plan.first, enter, step, streams=method.streams, recalibrate=recalibrate, diagnose=make_diagnosis(step),
        selects_anew=plan.selects_anew,
    )  # fmt: skip
    return _Built(begin, phase, Rates(tables, jnp.asarray(schedule.total, jnp.int32)))


def _enter(begin: Callable[..., State], state: State, new_method: bool) -> State:
    """The state at the start of a phase. If `new_method`, the method's state is initialized, otherwise it is kept."""
    fresh = begin(state.params)
    after = carry_over(state, fresh)
    return dataclasses.replace(after, method_state=fresh.method_state) if new_method else after


def _bound(config: ConfigDict, name: str) -> float | None:
    """The bound of the gradient in `config.optimizer[name]`; None if there is none."""
    bound = config.optimizer[name]
    if not bound >= 0:
        raise TlxError(f"config.optimizer.{name} is {bound}; it is above 0, or 0 for none.")
    return bound or None
