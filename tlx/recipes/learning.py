"""How a model learns, from a config: groups, schedule, losses, optimizer, the step."""

import dataclasses
import functools
import math
from collections.abc import Callable, Collection
from typing import Any

import jax
import numpy as np
import optax
from ml_collections import ConfigDict

from tlx.data.examples import ExampleSet
from tlx.errors import TlxError, listed
from tlx.evaluation.metrics import HIGHER_IS_BETTER, MONITOR, metric_names
from tlx.methods.finetune import FineTune, LossSettings
from tlx.models.heads import Head
from tlx.models.model import Model
from tlx.optim.groups import Group, assign_groups, make_optimizer
from tlx.optim.schedules import make_schedule
from tlx.params.partition import FROZEN
from tlx.recipes.inputs import Inputs
from tlx.recipes.regularise import averaged_rate, plan_anchors, plan_ascent, plan_average, plan_penalty
from tlx.recipes.sets import Sets
from tlx.training.loop import Schedule
from tlx.training.state import State, init_state, owners
from tlx.training.step import make_train_step


@dataclasses.dataclass(frozen=True)
class Learning:
    """How a model learns. groups: the group of each path. begin: parameters to the first state. step: pure.
    anchors: the constants that the step takes; None without any."""

    groups: dict[str, str]
    groups_of: dict[str, Group]
    schedule: Schedule
    rate: optax.Schedule
    begin: Callable[[Any], State]
    step: Callable[..., Any]
    anchors: Any


def plan_learning(
    config: ConfigDict,
    model: Model,
    params: Any,
    sets: Sets,
    inputs: Inputs,
    drawn: Collection[str] = (),
    sweep: optax.Schedule | None = None,
) -> Learning:
    """Groups, optimizer, method and step.

    Args:
      config: the run's.
      model: with its heads.
      params: arrays or their shapes; nothing is computed.
      sets: what is learnt from.
      inputs: what reads it.
      drawn: the paths that did not come with the checkpoint.
      sweep: the learning rate by step, in place of the config's.
    """
    limit = getattr(model.backbone.config, "max_length", None)
    if limit is not None and config.data.max_length > limit:
        raise TlxError(f"config.data.max_length is {config.data.max_length}; this checkpoint has {limit} positions.")
    groups_of = {name: Group(**group) for name, group in config.params.groups.items()}
    kinds = model.backbone.kinds
    groups = assign_groups(params, config.params.rules, groups_of, kinds)
    schedule, rate = make_schedules(config, len(sets.examples["train"]), sets.head.kind)
    rate = averaged_rate(config.average, schedule, rate) if sweep is None else sweep
    average = plan_average(config.average, schedule)
    losses = loss_settings(config.loss, sets.head, sets.examples["train"])
    method = FineTune(model, {"default": "label"}, inputs.training(sets.head), frozen_blocks(model, groups), losses)
    owner = owners(params, groups, method.players)
    optimizer = make_optimizer(
        params, config.params.rules, groups_of, learning_rate=rate, kinds=kinds,
        name=config.optimizer.name, momentum=config.optimizer.momentum,
        b1=config.optimizer.b1, b2=config.optimizer.b2, eps=config.optimizer.eps,
    )  # fmt: skip
    _, method_state = method.init(jax.random.key(config.seed))
    begin = functools.partial(
        init_state, owner=owner, optimizers={"model": optimizer}, method_state=method_state,
        averaged=average is not None,
    )  # fmt: skip
    step = make_train_step(
        method, {"model": optimizer}, owner,
        clip=config.optimizer.clip or None, accumulate=config.train.accumulate,
        ascent=plan_ascent(config.sam), penalty=plan_penalty(config.l2_sp), average=average,
    )  # fmt: skip
    anchors = plan_anchors(config, params, groups, drawn)
    return Learning(groups, groups_of, schedule, rate, begin, step, anchors)


def make_schedules(config: ConfigDict, examples: int, kind: str) -> tuple[Schedule, optax.Schedule]:
    """What the loop does when, and the learning rate by step."""
    train, optimizer = config.train, config.optimizer
    steps_per_epoch = math.ceil(examples / train.batch_size)
    total = max(1, round(train.epochs * steps_per_epoch))
    warmup = optimizer.warmup_steps
    warmup = round(optimizer.warmup_fraction * total) if warmup is None else warmup
    monitor = train.monitor or f"validation/{MONITOR[kind]}"
    name = monitor.removeprefix("validation/")
    if name not in {"loss", *metric_names(kind)} or monitor == name:
        known = [f"validation/{metric}" for metric in ("loss", *metric_names(kind))]
        raise TlxError(f"config.train.monitor is {monitor!r}; a {kind} has {listed(known)}.")
    when = Schedule(
        total=total,
        steps_per_epoch=steps_per_epoch,
        examples_per_step=train.batch_size,
        evaluate_every=max(1, round(train.evaluate_every * steps_per_epoch)),
        log_every=train.log_every,
        monitor=monitor,
        mode="max" if HIGHER_IS_BETTER[name] else "min",
        patience=train.patience,
    )
    rate = make_schedule(
        optimizer.schedule, optimizer.learning_rate, total, warmup,
        power=optimizer.power, final_fraction=optimizer.final_fraction,
    )  # fmt: skip
    return when, rate


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
    """The blocks in which nothing learns."""
    prefixes = [f"backbone/{path}" for path in model.backbone.config.block_paths]
    return tuple(
        prefix
        for prefix in prefixes
        if all(group == FROZEN for path, group in groups.items() if path.startswith(prefix + "/"))
    )
