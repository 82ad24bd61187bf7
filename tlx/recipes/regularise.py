"""Regularization from a config: parameter averages, L2-SP, sharpness-aware minimization, reinitialized parts."""

import functools
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import optax
from ml_collections import ConfigDict

from tlx.errors import TlxError, listed
from tlx.losses.l2_sp import l2_sp
from tlx.methods.api import Method
from tlx.optim.averages import AverageWeight, ema, swa
from tlx.optim.sharpness import Perturbation, sharpness_aware
from tlx.params.partition import FROZEN
from tlx.params.paths import flatten, map_with_path
from tlx.training.loop import LoopSchedule
from tlx.training.recalibrate import Recalibration, make_add
from tlx.training.step import Penalty

AVERAGES = ("none", "ema", "swa")


def plan_average(config: ConfigDict, schedule: LoopSchedule) -> AverageWeight | None:
    """Returns how the parameter average is updated; None if there is none.

    Args:
      config: the run's `config.average`.
      schedule: the run's schedule.
    """
    if config.kind not in AVERAGES:
        raise TlxError(f"config.average.kind is {config.kind!r}; it is one of {listed(AVERAGES)}.")
    if config.kind == "ema":
        return ema(config.decay, config.warmup)
    return swa(swa_start(config, schedule), config.every or schedule.steps_per_epoch) if config.kind == "swa" else None


def plan_recalibration(
    config: ConfigDict, method: Method, schedule: LoopSchedule, frozen: tuple[str, ...]
) -> Recalibration | None:
    """Returns how the model state of the average is computed; None without an average.

    Args:
      config: the run's config.
      method: the method of the phase.
      schedule: the run's schedule.
      frozen: the path prefixes of frozen parts, as in `make_train_step`.
    """
    if config.average.kind == "none":
        return None
    batches = config.average.recalibrate_batches
    if batches < 1:
        raise TlxError(f"config.average.recalibrate_batches is {batches}; it is a number of batches, at least 1.")
    add = make_add(method, accumulate=config.train.accumulate, total_steps=schedule.total, frozen=frozen)
    return Recalibration(add, min(batches, schedule.steps_per_epoch))


def swa_start(config: ConfigDict, schedule: LoopSchedule) -> int:
    """Returns the step after which SWA averages parameters for the first time. `config` is `config.average`."""
    if not 0 <= config.start_fraction < 1:
        raise TlxError(f"config.average.start_fraction is {config.start_fraction}; it is at least 0 and below 1.")
    return max(1, round(config.start_fraction * schedule.total))


def averaged_rate(config: ConfigDict, schedule: LoopSchedule, rate: optax.Schedule) -> optax.Schedule:
    """Returns the learning rate by step, constant after SWA's start if `config.average.learning_rate` is set.

    Args:
      config: the run's `config.average`.
      schedule: the run's schedule.
      rate: the learning rate by step without SWA.
    """
    if config.learning_rate is None:
        return rate
    if config.kind != "swa":
        raise TlxError(f"config.average.learning_rate applies to SWA only; config.average.kind is {config.kind!r}.")
    constant = optax.constant_schedule(config.learning_rate)
    return optax.join_schedules([rate, constant], [swa_start(config, schedule)])


def plan_perturbation(config: ConfigDict) -> Perturbation | None:
    """Returns the perturbation of sharpness-aware minimization; None without it. `config` is `config.sam`."""
    return sharpness_aware(config.radius, config.adaptive) if config.radius else None


def plan_penalty(config: ConfigDict) -> Penalty | None:
    """Returns the penalty of L2-SP; None without it. `config` is `config.l2_sp`."""
    if not config.alpha and not config.beta:
        return None
    l2_sp({}, {}, config.alpha, config.beta)  # raises TlxError for invalid values
    return functools.partial(l2_sp, alpha=config.alpha, beta=config.beta)


def plan_anchors(config: ConfigDict, params: Any, groups: Mapping[str, str], initialized: Collection[str]) -> Any:
    """Returns the starting point of L2-SP: a copy of each trainable parameter that was loaded from the checkpoint.

    Args:
      config: the run's config.
      params: the parameters, as arrays or as their shapes.
      groups: the group of each path.
      initialized: paths of the parameters that were initialized, not loaded from the checkpoint.

    Returns:
      A tree like `params` with None for all other leaves; None without L2-SP.

    Raises:
      TlxError: if no trainable parameter was loaded from the checkpoint.
    """
    if plan_penalty(config.l2_sp) is None:
        return None
    anchors = map_with_path(
        lambda path, leaf: None if groups[path] == FROZEN or path in initialized else _copied(leaf), params
    )
    if not jax.tree.leaves(anchors):
        raise TlxError(
            "config.l2_sp penalizes the distance to the checkpoint's values, but no trainable parameter was loaded "
            "from the checkpoint; see config.model.weights and config.params.rules."
        )
    return anchors


def _copied(leaf: Any) -> Any:
    return leaf if isinstance(leaf, jax.ShapeDtypeStruct) else np.array(leaf)


def reinitialized(config: Mapping[str, Any], block_paths: Sequence[str]) -> tuple[str, ...]:
    """Returns `config.model.reinitialise` as selectors.

    `last:K` stands for the last K blocks and `pooler` for the pooler; everything else is a selector. Zhang et al.
    (2021, section 5) reinitialize the pooler and up to six of BERT's blocks.

    Args:
      config: the run's `config.model`.
      block_paths: the paths of the embeddings and of all blocks.

    Raises:
      TlxError: if K is not a number of blocks.
    """
    selectors: list[str] = []
    for part in config.get("reinitialise", ()):
        blocks = block_paths[1:]
        if part == "pooler":
            selectors.append("backbone/pooler/.*")
        elif part.startswith("last:"):
            count = part.removeprefix("last:")
            if not count.isdigit() or not 1 <= int(count) <= len(blocks):
                raise TlxError(
                    f"config.model.reinitialise: {part!r} names the last blocks, and this model has {len(blocks)} "
                    f"blocks; it is last:1 to last:{len(blocks)}."
                )
            selectors += [f"backbone/{path}/.*" for path in blocks[-int(count) :]]
        else:
            selectors.append(part)
    return tuple(selectors)


def count_initialized(params: Any, initialized: Collection[str]) -> int:
    """Returns the number of parameters (scalars) at the paths `initialized`."""
    return sum(int(np.prod(leaf.shape)) for path, leaf in flatten(params).items() if path in initialized)
