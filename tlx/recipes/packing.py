"""Decides whether the texts of a run are packed and into which shapes, or to which lengths they are padded."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from ml_collections import ConfigDict

from tlx.adapters.model import LoraModel
from tlx.data.joint import JointExamples
from tlx.data.lengths import choose_lengths
from tlx.data.packed_shape import choose_shape, cost
from tlx.data.packing import PackedShape
from tlx.data.task_plan import choose_joint_shape
from tlx.errors import TlxError
from tlx.methods.api import Method
from tlx.modalities.api import Modality
from tlx.models.model import Model
from tlx.training.tasks import Stream, Task

PACKING = ("auto", "on", "off")
MOST_PADDING = 0.15  # "auto" does not pack if a larger share of the tokens were padding, as for batches of few texts


@dataclasses.dataclass(frozen=True)
class Packing:
    """The shapes of a run's packed batches.

    Attributes:
      training: the shape of the training batches.
      evaluation: the shape of the batches of all splits in evaluation.
      padding: the share of the tokens of a full training batch that are padding, on average.
    """

    training: PackedShape
    evaluation: PackedShape
    padding: float


def plan_batch_shapes(
    config: ConfigDict, model: Model, inputs: Modality, tasks: Mapping[str, Task], streams: Mapping[str, Stream],
    methods: Sequence[Method], total: int,
) -> tuple[Packing | None, tuple[int, ...]]:  # fmt: skip
    """Returns the shapes of packed batches, and the lengths to which texts are padded if that is None (not packed).

    Args:
      config: the run's config.
      model: the model.
      inputs: the modality.
      tasks: the tasks by name, with the examples as they were encoded.
      streams: streams besides those of the tasks, by name.
      methods: the method of each phase.
      total: the number of steps of the run.
    """
    packing = plan_packing(config, model, inputs, tasks, methods, total, streams)
    if packing is not None:
        return packing, inputs.length_buckets
    all_streams = {**{task.stream_name: task.stream for task in tasks.values()}, **streams}
    return None, plan_lengths(config, inputs, tasks, all_streams, total)


def plan_packing(
    config: ConfigDict, model: Model, inputs: Modality, tasks: Mapping[str, Task],
    methods: Sequence[Method], total: int, streams: Mapping[str, Stream] | None = None,
) -> Packing | None:  # fmt: skip
    """Returns the shapes of packed batches; None if texts are not packed.

    Args:
      config: the run's config, whose `data.packing` and `train` are used.
      model: the model.
      inputs: the modality.
      tasks: the tasks by name, with the examples as they were encoded.
      methods: the method of each phase.
      total: the number of steps of the run.
      streams: streams besides those of the tasks, by name.

    Raises:
      TlxError: if `data.packing` is "on" where texts cannot be packed.
    """
    wanted = config.data.packing
    reason = _obstacle(model, inputs, tasks, methods, streams or {})
    if wanted == "on" and reason is not None:
        raise TlxError(f"config.data.packing is 'on', but {reason}; set it to 'auto' or 'off'.")
    if wanted == "off" or reason is not None:
        return None
    shape, tokens = _training_shape(config, tasks, total)
    padding = 1 - tokens / (shape.rows * shape.length)
    lengths = [examples.lengths for task in tasks.values() for examples in task.splits.values()]
    longest = max(int(each.max()) for each in lengths)
    train = [task.splits["train"].lengths for task in tasks.values()]
    size = min(config.train.batch_size, max(len(each) for each in train))
    cheaper = cost(shape.rows, shape.length) < cost(size, max(int(each.max()) for each in train))
    if wanted == "auto" and (padding > MOST_PADDING or not cheaper):  # not if nearly all texts are long
        return None
    measured = [np.asarray(task.splits["validation"].lengths) for task in tasks.values()]
    most = max(-(-len(each) // -(-len(each) // config.train.eval_batch_size)) for each in measured)
    evaluation = choose_shape(np.concatenate(measured), most, longest=longest)
    return Packing(shape, evaluation, padding)


def _training_shape(config: ConfigDict, tasks: Mapping[str, Task], total: int) -> tuple[PackedShape, float]:
    """The shape of training batches, and the mean number of tokens of a batch."""
    task, size, multiple = next(iter(tasks.values())), config.train.batch_size, config.train.accumulate
    if task.joint is not None:
        examples, sampling = task.joint.examples, task.joint.sampling
        assert isinstance(examples, JointExamples) and sampling is not None
        return choose_joint_shape(examples.lengths_by_part, size, total, sampling, multiple)
    lengths = task.splits["train"].lengths
    shape = choose_shape(lengths, size, multiple=multiple, sampler=task.sampler)
    return shape, float(lengths.mean()) * min(size, len(lengths))


def plan_lengths(
    config: ConfigDict, inputs: Modality, tasks: Mapping[str, Task], streams: Mapping[str, Stream], total: int
) -> tuple[int, ...]:
    """Returns the lengths to which the batches of a run that does not pack its texts are padded.

    They are at most three, chosen from the data and the run's length. With `data.packing` "off" they are the fixed ones
    of the modality, so that runs of earlier versions go on as they began.

    Args:
      config: the run's config, whose `data.packing` and `seed` are used.
      inputs: the modality.
      tasks: the tasks by name; their longest text fits into the last length.
      streams: the streams by name, of which every step takes a batch.
      total: the number of steps of the run.
    """
    if config.data.packing == "off" or not inputs.has_lengths:
        return inputs.length_buckets
    every = tuple(range(1, inputs.length_buckets[-1] + 1))
    steps = min(total, max(stream.steps_per_epoch for stream in streams.values()))
    batches = [stream.batches(name, config.seed, every, steps) for name, stream in streams.items()]
    longest = np.array([max(each.length(step) for each in batches) for step in range(steps)])
    rows = sum(stream.batch_size for stream in streams.values())
    most = max(int(examples.lengths.max()) for task in tasks.values() for examples in task.splits.values())
    return choose_lengths(longest, rows * total / steps, most)


def _obstacle(
    model: Model, inputs: Modality, tasks: Mapping[str, Task], methods: Sequence[Method], streams: Mapping[str, Stream]
) -> str | None:
    """Why texts cannot be packed; None if they can."""
    if not inputs.has_lengths:
        return f"this run reads {inputs.plural}, which all have one length"
    if not getattr(model.backbone, "packs", False):
        return f"the backbone {type(model.backbone).__name__} takes one text in a row"
    if unable := [type(method).__name__ for method in methods if not getattr(method, "packs", False)]:
        return f"the method {unable[0]} takes one text in a row"
    if streams or any(len(method.streams) > 1 for method in methods):
        return "the run has several streams"
    if isinstance(model, LoraModel) and model.by_row:
        return "each task has an adapter, and a row has one (config.lora.per_task)"
    return None


def check_packing(config: ConfigDict) -> None:
    """Raises `TlxError` for an unknown value of `config.data.packing`."""
    if config.data.packing not in PACKING:
        raise TlxError(f"config.data.packing is {config.data.packing!r}; it is 'auto', 'on' or 'off'.")
