"""The mean relative gain over single-task baselines, Δm, of a study that has an arm for each task alone.

Arms whose config sets `single_task` are the baselines. Every other arm gets `SPLIT/delta_m` for each seed, from the
first metric of the study of each task, where the baselines of all tasks have that seed too.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from tlx.evaluation.relative_gain import DELTA, relative_gain

if TYPE_CHECKING:
    from tlx.studies.records import StudyFacts, TrialRecord

FIELD = "single_task"


def has_metric(metric: str, single_task: str | None) -> bool:
    """Returns whether an arm can have a metric of the study: a baseline has those of its task."""
    return not single_task or metric.startswith(f"{single_task}/")


def measured(metrics: Iterable[str], single_task: str | None) -> tuple[str, ...]:
    """Returns those of a study's metrics that a run measures itself: all that it can have but Δm."""
    return tuple(name for name in metrics if has_metric(name, single_task) and not name.endswith(f"/{DELTA}"))


def with_gains(facts: "StudyFacts", records: Sequence["TrialRecord"]) -> list["TrialRecord"]:
    """Returns the records with Δm among their metrics, as far as the study names it; see the module.

    Args:
      facts: the study, of whose `metrics` one is called `test/delta_m` or `validation/delta_m`.
      records: its trials.
    """
    splits = [name.removesuffix(f"/{DELTA}") for name in facts.metrics if name.endswith(f"/{DELTA}")]
    baselines: dict[int, dict[str, Mapping[str, float]]] = {}
    for record in records:
        if record.state == "complete" and (task := record.changes.get(FIELD)):
            baselines.setdefault(record.seed, {})[task] = record.metrics
    tasks = {record.changes[FIELD] for record in records if record.changes.get(FIELD)}
    if not splits or not tasks:
        return list(records)
    found = []
    for record in records:
        own = baselines.get(record.seed, {})
        if record.state == "complete" and not record.changes.get(FIELD) and own.keys() == tasks:
            gains = {f"{split}/{DELTA}": _gain(facts, record.metrics, own, split) for split in splits}
            known = {name: value for name, value in gains.items() if not math.isnan(value)}
            record = dataclasses.replace(record, metrics={**record.metrics, **known})
        found.append(record)
    return found


def _gain(
    facts: "StudyFacts", metrics: Mapping[str, float], baselines: Mapping[str, Mapping[str, float]], split: str
) -> float:
    """Δm of a run on a split; NaN if the study names no metric of a task, or a run lacks one."""
    names = {
        task: next((name for name in facts.metrics if name.startswith(f"{task}/{split}/")), "") for task in baselines
    }
    if any(name not in metrics or name not in baselines[task] for task, name in names.items()):
        return math.nan
    return relative_gain(
        {task: metrics[name] for task, name in names.items()},
        {task: baselines[task][name] for task, name in names.items()},
        {task: facts.metrics[name] == "maximize" for task, name in names.items()},
    )
