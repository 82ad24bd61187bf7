"""A task: a head, the labelled examples that it learns from and is measured on, and how its batches are drawn."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from tlx.data.examples import Batches, ExampleSet
from tlx.data.plan import TrainingPlan
from tlx.data.samplers import SHUFFLE, Sampler
from tlx.errors import TlxError, listed
from tlx.evaluation.metrics import measure
from tlx.evaluation.per_class import ClassReport, per_class
from tlx.methods.finetune import LossSettings, head_loss
from tlx.models.heads import Head

DEFAULT = "default"  # the task whose name metrics and streams leave out


@dataclasses.dataclass(frozen=True)
class Stream:
    """Examples of which every training step takes a batch.

    Attributes:
      examples: with or without labels.
      batch_size: examples a step.
      sampler: the order of an epoch.
    """

    examples: ExampleSet
    batch_size: int
    sampler: Sampler = SHUFFLE

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch, the last of which may be partial."""
        return -(-len(self.examples) // self.batch_size)

    def batches(self, name: str, seed: int, length_buckets: tuple[int, ...], steps: int, multiple: int = 1) -> Batches:
        """Its batches by step. name: of the stream. multiple: see `Batches`."""
        plan = TrainingPlan(
            self.examples.lengths, self.batch_size, seed, length_buckets, stream=name, sampler=self.sampler
        )
        return Batches(self.examples, plan, steps, multiple)


@dataclasses.dataclass(frozen=True)
class Task:
    """What one head learns.

    Attributes:
      name: of the head, and in metrics (`NAME/split/metric`); `default` is left out of them.
      head: what is predicted.
      splits: examples by split: `train`, `validation`, and `test` if there is one.
      loss: how the head is trained.
      batch_size: examples of it a step.
      sampler: the order of its training examples.
    """

    name: str
    head: Head
    splits: Mapping[str, ExampleSet]
    loss: LossSettings
    batch_size: int
    sampler: Sampler = SHUFFLE

    @property
    def stream_name(self) -> str:
        """Under which a batch holds its training examples."""
        return "train" if self.name == DEFAULT else self.name

    @property
    def stream(self) -> Stream:
        """Its training examples."""
        return Stream(self.splits["train"], self.batch_size, self.sampler)

    def score(self, predictions: np.ndarray, split: str) -> dict[str, float]:
        """Every metric of a split, under its full name."""
        values = score(predictions, self.splits[split], self.head)
        return {self.metric(f"{split}/{name}"): value for name, value in values.items()}

    def file(self, split: str) -> str:
        """What files of a split are called."""
        return split if self.name == DEFAULT else f"{self.name}_{split}"

    def metric(self, name: str) -> str:
        """The full name of `split/metric`."""
        return name if self.name == DEFAULT else f"{self.name}/{name}"


def full_name(metric: str, tasks: Mapping[str, Task]) -> str:
    """The name of a metric as `Task.score` writes it, from `task/split/metric` or, of the default task,
    `split/metric`.

    Raises:
      TlxError: there is no such task.
    """
    parts = metric.split("/")
    if len(parts) == 3 and parts[0] not in tasks:
        raise TlxError(f"the metric {metric!r} is of no task; the tasks are {listed(tasks)}.")
    return metric.removeprefix(f"{DEFAULT}/") if len(parts) == 3 else metric


def score(predictions: np.ndarray, examples: ExampleSet, head: Head) -> dict[str, float]:
    """Metrics of a head's kind and the mean loss, over exactly the examples there are.

    A word that cannot be predicted is wrong in every metric; it has no loss. A word without a label is in neither.

    Args:
      predictions: (examples, outputs), or of tagged words (words, outputs).
      examples: with their labels.
      head: what predicted them.
    """
    if examples.words is None:
        labels = examples.labels
        values = measure(head.kind, predictions, labels, head.labels)
    else:
        predictions, words = examples.words.measured(predictions)
        values = measure(head.kind, predictions, words.label, head.labels, words.offsets, words.predictable)
        predictions, labels = predictions[words.predictable], words.label[words.predictable]
    total, count = _jitted_loss(head)(predictions, labels, np.ones(len(labels), np.float32))
    return {"loss": float(total / count), **values}


def class_reports(predictions: np.ndarray, examples: ExampleSet, head: Head) -> list[ClassReport]:
    """Precision, recall and F1 of each class over what `score` measures; empty of a regression."""
    if examples.words is None:
        return per_class(head.kind, predictions, examples.labels, head.labels)
    predictions, words = examples.words.measured(predictions)
    return per_class(head.kind, predictions, words.label, head.labels, words.offsets)


@functools.lru_cache
def _jitted_loss(head: Head) -> Callable[..., Any]:
    return jax.jit(head_loss(head))
