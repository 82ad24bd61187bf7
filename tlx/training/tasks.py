"""A task: a head with its labelled examples, its loss and its metrics."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from tlx.data.batches import Batches
from tlx.data.examples import ExampleSet
from tlx.data.joint import JointExamples
from tlx.data.packing import PackedShape
from tlx.data.plan import TrainingPlan
from tlx.data.samplers import SHUFFLE, Sampler
from tlx.data.task_plan import TaskPlan, TaskSampling
from tlx.errors import TlxError, listed
from tlx.evaluation import masked
from tlx.evaluation.metrics import check_finite, default_monitor, measure
from tlx.evaluation.per_class import ClassReport, per_class
from tlx.evaluation.spans import best_answers, mean_loss, question_scores
from tlx.methods.finetune import LossSettings, head_loss
from tlx.models.heads import Head

DEFAULT = "default"  # the name of the only task of a run; names of metrics and streams do not contain it


@dataclasses.dataclass(frozen=True)
class Stream:
    """Examples from which each training step takes a batch.

    Attributes:
      examples: the examples, with or without labels.
      batch_size: number of examples of a step.
      sampler: the order of the examples in an epoch.
      shape: the shape of packed batches; None: texts are not packed.
      sampling: for `JointExamples`, how rows are divided among tasks; `sampler` is then not used.
    """

    examples: ExampleSet
    batch_size: int
    sampler: Sampler = SHUFFLE
    shape: PackedShape | None = None
    sampling: TaskSampling | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches of an epoch; the last batch may be partial."""
        return -(-len(self.examples) // self.batch_size)

    def batches(
        self, name: str, seed: int, length_buckets: tuple[int, ...], steps: int, multiple: int = 1,
        share: Callable[[int], np.ndarray] | None = None,
    ) -> Batches:  # fmt: skip
        """Returns the batches by step.

        Args:
          name: name of the stream.
          seed: seed of the run.
          length_buckets: the lengths to which batches are padded.
          steps: number of steps.
          multiple: see `Batches`.
          share: see `Batches`.
        """
        if self.sampling is not None:
            assert isinstance(self.examples, JointExamples)
            parts = self.examples.lengths_by_part
            of_tasks = TaskPlan(parts, self.batch_size, seed, steps, self.sampling, length_buckets, self.shape)
            return Batches(self.examples, of_tasks, steps, multiple, share)
        plan = TrainingPlan(
            self.examples.lengths, self.batch_size, seed, length_buckets, stream=name, sampler=self.sampler,
            shape=self.shape,
        )  # fmt: skip
        return Batches(self.examples, plan, steps, multiple, share)


@dataclasses.dataclass(frozen=True)
class Task:
    """A task of a run.

    Attributes:
      name: name of the task and of its head. Metrics are named `NAME/split/metric`, or `split/metric` if the name is
        `default`.
      head: the head.
      splits: examples by split: `train`, `validation` and, if there is one, `test`.
      loss: settings of the loss.
      batch_size: number of examples of a training step.
      sampler: the order of the training examples in an epoch.
      joint: the stream of the training examples of all tasks of the run; None: the task has its own.
      weight: a constant factor of the loss, for methods of several tasks.
      main: the task's main metric; None: the default of the head's kind.
    """

    name: str
    head: Head
    splits: Mapping[str, ExampleSet]
    loss: LossSettings
    batch_size: int
    sampler: Sampler = SHUFFLE
    joint: Stream | None = None
    weight: float = 1.0
    main: str | None = None

    @property
    def stream_name(self) -> str:
        """The name of the stream of its training examples."""
        return "train" if self.name == DEFAULT or self.joint is not None else self.name

    @property
    def stream(self) -> Stream:
        """The stream of its training examples."""
        return self.joint or Stream(self.splits["train"], self.batch_size, self.sampler)

    def score(self, predictions: np.ndarray, split: str) -> dict[str, float]:
        """Returns all metrics of a split by their full names."""
        values = score(predictions, self.splits[split], self.head)
        return {self.metric(f"{split}/{name}"): value for name, value in values.items()}

    def file(self, split: str) -> str:
        """Returns the name that files of a split have, without suffix."""
        return split if self.name == DEFAULT else f"{self.name}_{split}"

    def metric(self, name: str) -> str:
        """Returns the full name of a metric `split/metric`."""
        return name if self.name == DEFAULT else f"{self.name}/{name}"


JOINT = "joint"  # the mean over tasks of their main metrics


def joint(values: Mapping[str, float], tasks: Mapping[str, Task], split: str) -> dict[str, float]:
    """Returns `{"split/joint": the mean of the tasks' main metrics}`; {} for one task.

    Args:
      values: all metrics of a split.
      tasks: tasks by name.
      split: the split. Without examples of a task in it there is no mean.
    """
    if len(tasks) == 1 or any(split not in task.splits for task in tasks.values()):
        return {}
    return {f"{split}/{JOINT}": float(np.mean([values[main_metric(task, split)] for task in tasks.values()]))}


def main_metric(task: Task, split: str) -> str:
    """Returns the full name of a task's main metric."""
    return task.metric(f"{split}/{task.main or default_monitor(task.head.kind, task.head.labels)}")


def full_name(metric: str, tasks: Mapping[str, Task]) -> str:
    """Returns the name of a metric as `Task.score` writes it.

    Args:
      metric: `task/split/metric`, or `split/metric` for the default task.
      tasks: tasks by name.

    Raises:
      TlxError: if there is no such task.
    """
    parts = metric.split("/")
    if len(parts) == 3 and parts[0] not in tasks:
        raise TlxError(f"the metric {metric!r} names no task of the run; the tasks are {listed(tasks)}.")
    return metric.removeprefix(f"{DEFAULT}/") if len(parts) == 3 else metric


def score(predictions: np.ndarray, examples: ExampleSet, head: Head) -> dict[str, float]:
    """Returns the metrics of a head and its mean loss over all examples.

    In tagging, a word that cannot be predicted counts as wrong in all metrics and does not enter the loss. A word
    without a label enters neither. In question answering, metrics are of questions and the loss is that of windows. In
    masked language modelling, both are of the masked tokens.

    Args:
      predictions: float (examples, outputs), for tagging (words, outputs), for question answering (tokens, 2), for
        masked language modelling (tokens, 4), see `tlx.evaluation.masked`.
      examples: the examples with their labels.
      head: the head that made the predictions.
    """
    if examples.spans is not None:
        check_finite(predictions)
        scores = scores_of_questions(predictions, examples, head)
        loss = mean_loss(predictions, examples.token_fields["label"], examples.offsets)
        return {"loss": loss, **measure(head.kind, scores, examples.spans.question_id)}
    if head.kind == "masked_lm":
        there = masked.measured_tokens(predictions)
        scores, labels = predictions[there], examples.token_fields["label"][there]
        values = measure(head.kind, scores, labels)
        return {"loss": masked.mean_loss(scores), **values}
    if examples.words is None:
        labels = examples.labels
        values = measure(head.kind, predictions, labels, head.labels)
    else:
        predictions, words = examples.words.measured(predictions)
        values = measure(head.kind, predictions, words.label, head.labels, words.offsets, words.predictable)
        predictions, labels = predictions[words.predictable], words.label[words.predictable]
    total, count = _jitted_loss(head)(predictions, labels, np.ones(len(labels), np.float32))
    return {"loss": float(total / count), **values}


def scores_of_questions(predictions: np.ndarray, examples: ExampleSet, head: Head) -> np.ndarray:
    """Returns exact match and F1 of each question, float64 (questions, 2), from the logits of all tokens."""
    assert examples.spans is not None and examples.spans.answers is not None
    chosen = best_answers(predictions, examples.offsets, examples.spans, head)
    return question_scores([answer.text for answer in chosen], examples.spans.answers)


def class_reports(predictions: np.ndarray, examples: ExampleSet, head: Head) -> list[ClassReport]:
    """Returns precision, recall and F1 of each class, over the same examples as `score`.

    For regression, question answering and masked language modelling, which have no classes, the list is empty.
    """
    if examples.spans is not None or head.kind == "masked_lm":
        return []
    if examples.words is None:
        return per_class(head.kind, predictions, examples.labels, head.labels)
    predictions, words = examples.words.measured(predictions)
    return per_class(head.kind, predictions, words.label, head.labels, words.offsets)


@functools.lru_cache
def _jitted_loss(head: Head) -> Callable[..., Any]:
    return jax.jit(head_loss(head))
