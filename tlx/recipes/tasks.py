"""Several tasks of a run: `config.tasks`, the config of each task, and the set from which a step takes its rows."""

import dataclasses
from collections.abc import Mapping

from ml_collections import ConfigDict

from tlx.data import task_plan
from tlx.data.joint import JointExamples, same_inputs
from tlx.data.task_plan import BATCHES, TaskLaw, TaskSampling
from tlx.errors import TlxError, listed
from tlx.evaluation.metrics import higher_is_better, metric_names
from tlx.models.heads import Head
from tlx.models.model import NAME
from tlx.recipes.model import loras_of
from tlx.recipes.splits import with_splits
from tlx.training.tasks import DEFAULT, JOINT, Stream, Task, main_metric

SECTIONS = ("data", "head", "loss")  # of the run's config, whose fields a task may set
OTHERS = ("metric", "weight")
OF_THE_RUN = ("max_length", "stride", "packing")  # fields of data that are the same for all tasks
RESERVED = (DEFAULT, JOINT, "train", "validation", "test", "predicted")  # have a meaning of their own


def configs_by_task(config: ConfigDict) -> dict[str, ConfigDict]:
    """Returns the config of each task: the run's, with the fields that the task sets. Without tasks, `default`.

    If `config.single_task` names a task, it is the only one.

    Raises:
      TlxError: a task's name or a field is not possible.
    """
    if not config.get("tasks"):
        return {DEFAULT: config}
    if config.data.target or config.data.target_test:
        raise TlxError("config.tasks and config.data.target are set; a run has several tasks or a target, not both.")
    if (alone := config.get("single_task")) and alone not in config.tasks:
        raise TlxError(f"config.single_task is {alone!r}; the tasks are {listed(config.tasks)}.")
    found = {}
    for name, given in config.tasks.items():
        if not NAME.fullmatch(name) or name in RESERVED:
            raise TlxError(f"config.tasks.{name}: a task's name is letters, digits and _, and not {name!r}.")
        if unknown := sorted(set(given.keys()) - {*SECTIONS, *OTHERS}):
            raise TlxError(f"config.tasks.{name}.{unknown[0]} is set; a task has {listed((*SECTIONS, *OTHERS))}.")
        if shared := [field for field in OF_THE_RUN if field in given.get("data", {})]:
            raise TlxError(
                f"config.tasks.{name}.data.{shared[0]} is set; all tasks of a run share it, so set "
                f"config.data.{shared[0]}."
            )
        own = config.copy_and_resolve_references()
        for section in SECTIONS:
            for field, value in given.get(section, {}).items():
                if field not in own[section]:
                    known = listed(own[section], 99)
                    raise TlxError(f"config.tasks.{name}.{section}.{field} is set; config.{section} has {known}.")
                own[section][field] = value
        if alone in ("", None, name):
            found[name] = with_splits(own)
    return found


def sampling_of(config: ConfigDict) -> TaskSampling:
    """Returns how the rows of a step are divided among tasks, from `config.sampler`.

    Raises:
      TlxError: there is no such law or kind of batch.
    """
    sampler = config.sampler
    laws: dict[str, TaskLaw] = {
        "uniform": task_plan.uniform(),
        "proportional": task_plan.proportional(sampler.cap),
        "temperature": task_plan.temperature(sampler.temperature, sampler.cap),
        "annealed": task_plan.annealed(end=sampler.annealed_to, cap=sampler.cap),
    }
    if sampler.law not in laws:
        raise TlxError(f"config.sampler.law is {sampler.law!r}; it is one of {listed(laws)}.")
    if sampler.batches not in BATCHES:
        raise TlxError(f"config.sampler.batches is {sampler.batches!r}; it is one of {listed(BATCHES)}.")
    return TaskSampling(laws[sampler.law], sampler.batches)


def with_joint_stream(config: ConfigDict, tasks: Mapping[str, Task]) -> dict[str, Task]:
    """Returns the tasks of a run with the stream that they share. A single task is returned as it is.

    Tasks that read the same rows of the same files share inputs: a row then has the labels of all of them, and counts
    once. With an adapter for each task they do not, because a row goes through the backbone with one adapter.

    Args:
      config: the run's config.
      tasks: the tasks by name.

    Raises:
      TlxError: a task's metric is unknown or is better when it is lower.
    """
    if not config.get("tasks"):
        return dict(tasks)
    parts: dict[str, dict[str, Task]] = {}
    for name, task in tasks.items():
        given = config.tasks[name]
        weight = 1.0 if config.get("single_task") else float(given.get("weight", 1.0))
        task = dataclasses.replace(task, weight=weight, main=given.get("metric"))
        _check_metric(task)
        key = next(
            (first for first in parts if _shares_inputs(config, tasks, first, name)),
            name,
        )
        parts.setdefault(key, {})[name] = task
    examples = JointExamples([{name: task.splits["train"] for name, task in part.items()} for part in parts.values()])
    stream = Stream(examples, config.train.batch_size, sampling=sampling_of(config))
    every = {name: task for part in parts.values() for name, task in part.items()}
    return {name: dataclasses.replace(every[name], joint=stream) for name in tasks}


def _shares_inputs(config: ConfigDict, tasks: Mapping[str, Task], first: str, second: str) -> bool:
    if len(loras_of(config)) > 1:
        return False
    configs = configs_by_task(config)
    read = [
        {field: value for field, value in configs[name].data.items() if field not in ("label", "label_separator")}
        for name in (first, second)
    ]
    return read[0] == read[1] and same_inputs(tasks[first].splits["train"], tasks[second].splits["train"])


def _check_metric(task: Task) -> None:
    head: Head = task.head
    name = main_metric(task, "validation").rpartition("/")[2]
    known = [
        metric for metric in metric_names(head.kind, head.labels, head.outputs) if higher_is_better(head.kind, metric)
    ]
    if name not in known:
        raise TlxError(
            f"config.tasks.{task.name}.metric is {name!r}; of the metrics that are better when they are higher, a "
            f"{head.kind} task has {listed(known, 99)}."
        )
