"""Advice on settings that are allowed but usually a mistake. `tlx inspect` prints it before training."""

import warnings
from collections.abc import Iterable
from typing import Any

import jax.numpy as jnp
from ml_collections import ConfigDict

from tlx.errors import TlxError
from tlx.optim.optimizers import OPTIMIZERS
from tlx.params.paths import flatten
from tlx.recipes.parameters import GroupAssignment

# Optimizers whose update of each entry is about as large as the learning rate, with their usual names.
ADAM_LIKE = {
    "adam": "Adam",
    "adamw": "AdamW",
    "nadam": "NAdam",
    "nadamw": "NAdamW",
    "amsgrad": "AMSGrad",
    "lion": "Lion",
}
LARGE_FOR_ADAM = 1e-3  # from this rate on AdamW overwrites pretrained weights; published rates are 1e-6 to 5e-4
SMALL_FOR_SGD = 1e-4  # below this rate SGD hardly changes the weights


def advise(config: ConfigDict, assignment: GroupAssignment, total: int, examples: int) -> list[str]:
    """Returns advice as sentences; an empty list if there is none.

    Args:
      config: a fine-tuning config.
      assignment: the groups of its parameters.
      total: number of steps of the run.
      examples: number of training examples.
    """
    return [*_rates(config, assignment), *_frozen(config, assignment), *_run(config, total, examples)]


def warn_of_half_precision(config: ConfigDict, assignments: Iterable[GroupAssignment], params: Any) -> None:
    """Warns of `half_precision` in each phase; `assignments` are the groups of the phases."""
    for assignment in assignments:
        for sentence in half_precision(config, assignment, params):
            warnings.warn(sentence, UserWarning, stacklevel=3)


def half_precision(config: ConfigDict, assignment: GroupAssignment, params: Any) -> list[str]:
    """Returns warnings about trained parameters in float16 or bfloat16; an empty list if there are none.

    Args:
      config: a fine-tuning config.
      assignment: the groups of its parameters.
      params: the parameters, as arrays or as their shapes.

    Raises:
      TlxError: if an optimizer's epsilon rounds to 0 in float16. Its update of an entry whose gradient is 0 is then
        0 / 0.
    """
    dtypes = {path: jnp.dtype(leaf.dtype) for path, leaf in flatten(params).items()}
    found = []
    for path, group in assignment.assigned.items():
        if group not in assignment.groups or dtypes.get(path) not in (jnp.float16, jnp.bfloat16):
            continue
        name = assignment.groups[group].optimizer or config.optimizer.name
        defaults = OPTIMIZERS[name].defaults
        if dtypes[path] == jnp.float16 and "eps" in defaults:
            eps = defaults["eps"] if config.optimizer.eps is None else config.optimizer.eps
            if jnp.float16(eps) == 0:
                raise TlxError(
                    f"{path} is float16, and the epsilon of {name} ({eps:g}) is 0 in float16, so that parameters "
                    "become NaN; keep trained parameters in float32, or set config.optimizer.eps to 1e-4 or more."
                )
        found.append(path)
    if not found:
        return []
    return [
        f"{len(found)} trained parameters are {dtypes[found[0]]} ({found[0]}): an update is lost where it is below "
        "half of the parameter's last digit, for bfloat16 always where it is below 1/512 of the parameter; keep "
        "trained parameters in float32 and compute in bfloat16 (config.model.dtype)."
    ]


def _rates(config: ConfigDict, assignment: GroupAssignment) -> Iterable[str]:
    optimizer = config.optimizer
    rates = {
        path: optimizer.learning_rate * assignment.factor(path, optimizer.learning_rate)
        for path, group in assignment.assigned.items()
        if path.startswith("backbone/") and group in assignment.groups
    }
    if not rates or config.model.weights != "pretrained":
        return
    path = max(rates, key=lambda path: rates[path])
    name = assignment.groups[assignment.assigned[path]].optimizer or optimizer.name
    rate = f"the backbone's largest learning rate is {rates[path]:g} ({path})"
    if name in ADAM_LIKE and rates[path] >= LARGE_FOR_ADAM:
        yield f"{rate} with {ADAM_LIKE[name]}; for a pretrained backbone, 1e-5 to 1e-4 is usual."
    if name == "sgd" and rates[path] < SMALL_FOR_SGD:
        yield f"{rate} with SGD; for SGD, 1e-3 to 1e-1 is usual."


def _frozen(config: ConfigDict, assignment: GroupAssignment) -> Iterable[str]:
    heads = [path for path in assignment.frozen if path.startswith("heads/")]
    if heads:
        yield f"{heads[0]} has random values and is frozen, so predictions stay random; train `heads/.*`."
    initialise = config.model.initialise
    parts = [initialise] if isinstance(initialise, str) else list(initialise)
    pooler = [path for path in assignment.frozen if path.startswith("backbone/pooler/")]
    if pooler and any(part in ("pooler", "all") for part in parts):
        yield f"{pooler[0]} has random values and is frozen; train it, or set config.head.pooling='mean'."


def _run(config: ConfigDict, total: int, examples: int) -> Iterable[str]:
    warmup = config.optimizer.warmup_steps
    warmup_steps = round(config.optimizer.warmup_fraction * total) if warmup is None else warmup
    if warmup_steps > total / 2:
        yield f"the warm-up takes {warmup_steps} of the run's {total} steps."
    if config.train.batch_size > examples:
        yield f"config.train.batch_size is {config.train.batch_size}, and there are {examples} training examples."
    if config.optimizer.schedule == "constant" and config.train.epochs > 1 and not warmup_steps:
        yield "the learning rate is constant and has no warm-up (config.optimizer.schedule='constant')."
