"""An adapter for each task: every row says which one it has, and the model gets it with the row's inputs."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from tlx.adapters.model import LoraModel
from tlx.data.examples import ExampleSet
from tlx.errors import TlxError
from tlx.modalities.api import Fields, Inputs, Prepare
from tlx.models.heads import Head
from tlx.models.model import Model
from tlx.training.tasks import Task

ADAPTER = "adapter"  # the field of a batch, and the input of the model


def with_task_adapters(model: Model, inputs: Inputs, tasks: Mapping[str, Task]) -> tuple[Inputs, dict[str, Task]]:
    """Returns the inputs and tasks of a run whose tasks have an adapter each; those of other runs as they are.

    Args:
      model: the model.
      inputs: makes the model's inputs from a batch.
      tasks: the tasks by name.
    """
    if not (isinstance(model, LoraModel) and model.by_row):
        return inputs, dict(tasks)
    places = {lora.name: place for place, lora in enumerate(model.loras)}
    found = {}
    for name, task in tasks.items():
        splits = {split: _with_adapter(examples, places[name]) for split, examples in task.splits.items()}
        found[name] = dataclasses.replace(task, splits=splits)
    return InputsWithAdapter(inputs), found


def _with_adapter(examples: Any, place: int) -> ExampleSet:
    changed: ExampleSet = examples.with_field(ADAPTER, np.full(len(examples), place, np.int32))
    return changed


@dataclasses.dataclass(frozen=True)
class InputsWithAdapter:
    """Inputs of a model in which each row has an adapter; see `tlx.modalities.api.Inputs`.

    Attributes:
      inputs: the model's inputs without it.
    """

    inputs: Inputs

    @property
    def fields(self) -> tuple[str, ...]:
        return (*self.inputs.fields, ADAPTER)

    @property
    def length_buckets(self) -> tuple[int, ...]:
        return self.inputs.length_buckets

    def prepare(self, rows: Fields, key: jax.Array | None) -> tuple[dict[str, Any], Fields]:
        return _added(rows, *self.inputs.prepare(rows, key))

    def training(self, head: Head) -> Prepare:
        prepare = self.inputs.training(head)
        return lambda rows, key: _added(rows, *prepare(rows, key))

    def tokens(self, model: Model, batch: Mapping[str, Any]) -> int:
        return self.inputs.tokens(model, batch)


def _added(rows: Fields, inputs: dict[str, Any], prepared: Fields) -> tuple[dict[str, Any], Fields]:
    if ADAPTER not in rows:
        raise TlxError(
            "each task has an adapter, and these examples do not say of which task they are; take those of "
            "job.tasks[NAME].splits, or job.trained().of_task(NAME)."
        )
    return {**inputs, ADAPTER: rows[ADAPTER]}, prepared
