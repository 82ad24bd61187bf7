"""The methods of several tasks by name; an entry of `METHODS` for each."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from tlx.errors import TlxError
from tlx.methods.api import Method
from tlx.methods.multitask import balance
from tlx.methods.multitask.method import MultiTask, TaskLabels, UncertaintyWeighted
from tlx.training.tasks import DEFAULT

if TYPE_CHECKING:
    from tlx.recipes.methods import MethodInputs

UNCERTAINTY = {"variant": "paper", "initial": 0.0}
Entry = tuple[Callable[["MethodInputs"], Method], Mapping[str, Any]]


def _balanced(chosen: type[balance.Balance]) -> Entry:
    """The entry of a balance, whose fields are those of `config.method`."""
    fields = {field.name: field.default for field in dataclasses.fields(chosen)}

    def make(inputs: "MethodInputs") -> Method:
        settings = {name: inputs.config.method[name] for name in fields}
        return MultiTask(inputs.model, _task_labels(inputs), inputs.prepare, chosen(**settings))

    return make, fields


def _uncertainty(inputs: "MethodInputs") -> Method:
    settings = {name: inputs.config.method[name] for name in UNCERTAINTY}
    return UncertaintyWeighted(inputs.model, _task_labels(inputs), inputs.prepare, **settings)


def _task_labels(inputs: "MethodInputs") -> dict[str, TaskLabels]:
    """Where the joint stream has the labels of each task."""
    if DEFAULT in inputs.tasks:
        name = inputs.config.method.name
        raise TlxError(f"config.method.name is {name!r}, a method of several tasks; name them in config.tasks.")
    return {
        name: TaskLabels(f"label_{name}", settings=task.loss, weight=task.weight) for name, task in inputs.tasks.items()
    }


BALANCED: dict[str, Entry] = {
    "equal": _balanced(balance.Balance),
    "uncertainty": (_uncertainty, UNCERTAINTY),
    "rlw": _balanced(balance.RandomWeights),
    "dwa": _balanced(balance.DynamicWeightAverage),
    "famo": _balanced(balance.Famo),
    "gradnorm": _balanced(balance.GradNorm),
    "pcgrad": _balanced(balance.PcGrad),
    "mgda": _balanced(balance.Mgda),
    "cagrad": _balanced(balance.CaGrad),
    "imtl_g": _balanced(balance.ImtlG),
    "nash_mtl": _balanced(balance.NashMtl),
    "aligned_mtl": _balanced(balance.AlignedMtl),
}
