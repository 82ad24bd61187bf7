"""Single-task baselines of a run of several tasks: their configs, their results, and Δm, the mean gain over them."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from tlx.errors import TlxError, listed
from tlx.evaluation.metrics import higher_is_better
from tlx.evaluation.relative_gain import DELTA, relative_gain
from tlx.recipes.encoded import IRRELEVANT
from tlx.recipes.run_directory import read_run, read_summary
from tlx.recipes.trained import config_of_task
from tlx.training.tasks import Task, main_metric

Baselines = Mapping[str, Mapping[str, float]]  # the metrics of each task's own run


def single_task_configs(config: ConfigDict) -> dict[str, ConfigDict]:
    """Returns the config of each task's own run, which differs in the tasks and the method alone.

    The budget is the same: `train.epochs` of the task's own examples, which is what a run of all tasks gives it with
    the law `proportional`, in batches of the same size.

    Args:
      config: the config of a run of several tasks.
    """
    found = {}
    for name in config.tasks:
        own = config.copy_and_resolve_references()
        own.single_task, own.baselines, own.method = name, "", ConfigDict({"name": "equal"})
        found[name] = own
    return found


def read_baselines(config: ConfigDict) -> dict[str, dict[str, float]]:
    """Returns the metrics of the runs in `config.baselines`, by task; {} if the config names no folder.

    Raises:
      TlxError: if a task has no finished run there, or one of another task, other data or another number of epochs.
    """
    if not config.get("baselines") or config.get("single_task"):
        return {}
    folder, found = Path(config.baselines), {}
    missing = [name for name in config.tasks if not (folder / name / "summary.json").is_file()]
    if missing:
        raise TlxError(
            f"config.baselines is {folder}, which has no finished run of {listed(missing)}; experiments/multitask.py "
            "trains those that are missing, or leave it empty."
        )
    for name in config.tasks:
        run = folder / name
        other, summary = read_run(run)["config"], read_summary(run)
        if other.get("single_task") != name:
            raise TlxError(f"{run} is no run of the task {name!r} alone (config.single_task={name}).")
        own = _budget(config.to_dict(), name)
        if differing := [field for field, value in _budget(other, name).items() if own.get(field) != value]:
            raise TlxError(
                f"{run} was trained with another {differing[0]} than this run has, so it is no baseline; name another "
                "folder as config.baselines."
            )
        assert summary is not None
        found[name] = dict(summary["metrics"])
    return found


def gains(metrics: Mapping[str, float], baselines: Baselines, tasks: Mapping[str, Task]) -> dict[str, float]:
    """Returns Δm of the tasks' main metrics on each split as `SPLIT/delta_m`; {} without baselines.

    A split on which a baseline was not measured, or has a metric that is not above 0, has none.
    """
    found: dict[str, float] = {}
    for split in ("validation", "test") if baselines else ():
        names = {name: main_metric(task, split) for name, task in tasks.items()}
        if all(metric in metrics and metric in baselines[name] for name, metric in names.items()):
            found[f"{split}/{DELTA}"] = relative_gain(
                {name: metrics[metric] for name, metric in names.items()},
                {name: baselines[name][metric] for name, metric in names.items()},
                {name: higher_is_better(tasks[name].head.kind, m.rpartition("/")[2]) for name, m in names.items()},
            )
    return {name: value for name, value in found.items() if not math.isnan(value)}


def _budget(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """What a task's own run has to share with the run of all tasks: its data and the number of epochs, as in JSON."""
    own = config_of_task(config, name)
    fields = {f"config.data.{field}": value for field, value in own["data"].items() if field not in IRRELEVANT}
    plain: dict[str, Any] = json.loads(json.dumps({**fields, "config.train.epochs": own["train"]["epochs"]}))
    return plain
