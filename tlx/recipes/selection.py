"""Choosing a checkpoint for a target domain: values without its labels, and what each choice is worth with them.

Nothing here chooses by a label of the target. `choices` reads the metrics of `data.target_test` after training, to say
what the accuracy of each choice is; the best one, `oracle`, is what no user without labels can choose.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tlx.errors import TlxError, listed
from tlx.evaluation.metrics import default_monitor, higher_is_better
from tlx.evaluation.predict import features_name
from tlx.evaluation.validators import VALIDATORS, Outputs, Validator
from tlx.models.heads import Head
from tlx.recipes.splits import TARGET, TARGET_TEST
from tlx.training.tasks import DEFAULT, Stream, Task

PREFIX = "validator"  # of the validators' names among the metrics
LEAST = 5  # examples of each domain: the classifier of the domains is validated in five folds


def validators_apply(head: Head) -> bool:
    """Returns whether validators are defined for a head: it has classes and reads one vector."""
    return head.kind == "classification" and head.pooling != "distilled"


def validator_values(
    source: Mapping[str, np.ndarray], labels: np.ndarray, target: Mapping[str, np.ndarray]
) -> dict[str, float]:
    """Returns the value of every validator, by `validator/NAME`.

    Args:
      source: `Job.outputs` of the source's validation split.
      labels: integers (examples,), of that split.
      target: `Job.outputs` of the unlabelled target.

    Returns:
      The values; {} if a set has fewer than 5 examples.
    """
    if min(len(labels), len(target[DEFAULT])) < LEAST:
        return {}
    features = features_name(DEFAULT)
    outputs = Outputs(source[features], source[DEFAULT], labels, target[features], target[DEFAULT])
    return {f"{PREFIX}/{name}": float(validator.function(outputs)) for name, validator in VALIDATORS.items()}


def validator_of(monitor: str, head: Head, target: str) -> Validator | None:
    """Returns the validator that `train.monitor` names; None if it names a metric.

    Raises:
      TlxError: if there is no such validator, or the run has no target or no classes.
    """
    prefix, _, name = monitor.partition("/")
    if prefix != PREFIX:
        return None
    if name not in VALIDATORS:
        raise TlxError(f"config.train.monitor is {monitor!r}; the validators are {listed(VALIDATORS, most=99)}.")
    if not target or not validators_apply(head):
        raise TlxError(f"config.train.monitor is {monitor!r}, which needs config.data.target and a head with classes.")
    return VALIDATORS[name]


def check_rows(monitor: str, tasks: Mapping[str, Task], streams: Mapping[str, Stream]) -> None:
    """Raises `TlxError` if a validator selects the checkpoint and there are too few examples to compute it."""
    if not monitor.startswith(f"{PREFIX}/"):
        return
    count = min(len(tasks[DEFAULT].splits["validation"]), len(streams[TARGET].examples))
    if count < LEAST:
        raise TlxError(f"{monitor} needs {LEAST} examples of validation and of the target each; there are {count}.")


def choices(lines: Sequence[Mapping[str, Any]], selected: int, head: Head) -> dict[str, Any]:
    """Returns the step that each choice takes, and the metric of the target's test set there.

    Args:
      lines: the run's `metrics.jsonl`; only steps that may be chosen.
      selected: the step that the run selected.
      head: its head, whose default metric is reported.

    Returns:
      `metric`, its name; `selected`, `last`, `oracle` (by the target's labels) and, under `validators`, each
      validator by its name: `{"step": …, "value": …}`, without a value if there is no labelled test set.
    """
    metric = default_monitor(head.kind, head.labels)
    name = f"{TARGET_TEST}/{metric}"
    known = [name, *(f"{PREFIX}/{validator}" for validator in VALIDATORS)]
    evaluated = {line["step"]: line for line in lines if any(key in line for key in known)}
    if not evaluated:
        return {}
    steps = sorted(evaluated)

    def at(step: int) -> dict[str, Any]:
        value = evaluated.get(step, {}).get(name)
        return {"step": step} if value is None else {"step": step, "value": value}

    def best(key: str, higher: bool) -> dict[str, Any] | None:
        sign = 1 if higher else -1
        values = [
            (sign * evaluated[step][key], -step) for step in steps if not math.isnan(evaluated[step].get(key, math.nan))
        ]
        return at(-max(values)[1]) if values else None

    by_validator = {v: best(f"{PREFIX}/{v}", validator.higher) for v, validator in VALIDATORS.items()}
    oracle = best(name, higher_is_better(head.kind, metric))
    return {
        "metric": name,
        "selected": at(selected),
        "last": at(steps[-1]),
        **({"oracle": oracle} if oracle else {}),
        "validators": {v: chosen for v, chosen in by_validator.items() if chosen},
    }


def metrics_of_choices(target: Mapping[str, Any]) -> dict[str, float]:
    """Returns the target's metric by each choice but the run's own, as `CHOICE/target_test/METRIC`, for a study.

    Args:
      target: the result of `choices`; empty for a run without a target.
    """
    if not target:
        return {}
    by = {"last": target["last"], "oracle": target.get("oracle", {}), **target["validators"]}
    return {f"{choice}/{target['metric']}": at["value"] for choice, at in by.items() if "value" in at}


def table_of_choices(target: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Returns `(by, step, value)` for each choice of `choices`, for a table."""
    named = {"the run": target["selected"], "last step": target["last"]} | target["validators"]
    if "oracle" in target:
        named["oracle (reads target labels)"] = target["oracle"]
    return [(by, str(at["step"]), f"{at['value']:.4f}" if "value" in at else "") for by, at in named.items()]
