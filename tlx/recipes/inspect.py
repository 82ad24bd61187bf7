"""Inspects a config before training: the group of every parameter, the memory of training and the cost of a step."""

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from tlx.data.plan import padded
from tlx.errors import TlxError
from tlx.methods.api import Method
from tlx.models.forward import abstract_variables
from tlx.models.model import dummy_inputs
from tlx.optim.groups import decayed
from tlx.parallel.layout import Layout
from tlx.parallel.placement import WHOLE, describe_sharding
from tlx.params.partition import FROZEN
from tlx.params.paths import flatten
from tlx.params.rules import Rules
from tlx.pretrained.folder import resolve
from tlx.pretrained.load import abstract_params, selected
from tlx.pretrained.own_head import masked_lm_head
from tlx.recipes.advice import advise, half_precision
from tlx.recipes.checks import check_config, check_mixing
from tlx.recipes.datasets import load_datasets
from tlx.recipes.deprecated import with_current_names
from tlx.recipes.finetune import layout_from, make_task
from tlx.recipes.inputs import open_inputs
from tlx.recipes.methods import with_method_fields
from tlx.recipes.model import adapted, describe_model
from tlx.recipes.packing import Packing, plan_batch_shapes
from tlx.recipes.parameters import GroupAssignment
from tlx.recipes.regularise import count_initialized, reinitialized
from tlx.recipes.splits import with_splits
from tlx.recipes.target import check_streams, check_target, target_streams, with_target_as_source
from tlx.recipes.train import TrainSetup, train_setup
from tlx.training.tasks import DEFAULT, Stream


@dataclasses.dataclass(frozen=True)
class Leaf:
    """One parameter.

    Attributes:
      path: its path in the tree.
      shape: its shape.
      dtype: its dtype.
      group: its group.
      multiplier: factor of the learning rate; 0 if it is frozen.
      decay: weight decay; 0 if this kind of parameter is not decayed.
      bytes: its size in bytes.
      sharding: `whole` if each device holds all of it, otherwise the sharded axis and the number of parts.
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    group: str
    multiplier: float
    decay: float
    bytes: int
    sharding: str = WHOLE


@dataclasses.dataclass(frozen=True)
class InspectedPhase:
    """One phase.

    Attributes:
      first: number of steps before the phase.
      rules: the rules of `params.rules` and of the shorthands.
      trainable: number of trainable parameters.
    """

    first: int
    rules: Rules
    trainable: int


@dataclasses.dataclass(frozen=True)
class Inspected:
    """What `inspect` returns. Where phases differ, all fields but `phases` and `advice` describe the first phase.

    Attributes:
      leaves: all parameters.
      initialized: number of parameters that `model.reinitialise` initializes again.
      examples: number of examples of each split.
      steps: number of steps of the run.
      batch: (rows, tokens of a row) of the most expensive step. A row is an example, or holds several packed texts.
      bytes: bytes of memory in training, by what they hold.
      flops: floating-point operations of that step on one device, as XLA counts them for this machine.
      accessed: bytes of memory traffic of that step, counted in the same way.
      phases: all phases.
      advice: sentences on settings that are allowed but usually a mistake.
      program: that step, compiled.
      shards: number of devices over which parameters are sharded.
    """

    leaves: list[Leaf]
    initialized: int
    examples: dict[str, int]
    steps: int
    batch: tuple[int, int]
    bytes: dict[str, int]
    flops: float
    accessed: float
    phases: list[InspectedPhase]
    advice: list[str]
    program: jax.stages.Compiled = dataclasses.field(repr=False)
    shards: int = 1


def inspect(config: ConfigDict) -> Inspected:
    """Inspects a config.

    The data, the checkpoint's config and its tokenizer are read, but no weights. The training step is compiled but not
    run.

    Raises:
      TlxError: if a value of the config or the data is invalid.
    """
    config = with_method_fields(with_current_names(config))
    check_config(config)
    if config.get("tasks"):
        raise TlxError("tlx inspect reads the config of one task; this config has config.tasks.")
    config = with_splits(with_target_as_source(config)).copy_and_resolve_references()
    config.train.accumulate = 1  # XLA counts a loop's body once
    check_target(config)
    folder = resolve(config.model.checkpoint)
    inputs = open_inputs(folder, config)
    datasets = load_datasets(config, inputs)
    model = adapted(describe_model(folder, config.model, {"default": datasets.head}), config)
    params = abstract_params(model)
    reinitialized_paths = selected(
        flatten(params), reinitialized(config.model, model.backbone.config.block_paths), model.backbone.kinds
    )
    pretrained = config.model.weights == "pretrained"
    own = pretrained and datasets.head.kind == "masked_lm" and masked_lm_head(folder) is not None
    initialized = {
        path
        for path in flatten(params)
        if path in reinitialized_paths or (path.startswith("heads/") and not own) or not pretrained
    }
    tasks = {DEFAULT: make_task(DEFAULT, config, datasets)}
    has_state = model.backbone.config.has_state
    model_state = abstract_variables(model, lambda: dummy_inputs(model)).model_state if has_state else {}
    streams = target_streams(config, {DEFAULT: datasets})
    setup = train_setup(
        config, model, params, tasks, inputs, initialized, model_state=model_state,
        sizes={name: len(stream.examples) for name, stream in streams.items()},
    )  # fmt: skip
    check_streams(setup.methods, {"train", *streams})
    layout = layout_from(config).with_params(params, model.backbone.kinds)
    check_mixing(inputs, tasks)
    advice = [
        sentence
        for assignment in setup.assignments
        for sentence in (
            *half_precision(config, assignment, params),
            *advise(config, assignment, setup.schedule.total, len(datasets.examples["train"])),
        )
    ]
    state = jax.eval_shape(setup.begin, params, model_state)
    packing, lengths = plan_batch_shapes(config, model, inputs, tasks, streams, setup.methods, setup.schedule.total)
    batches = _batches(tasks[DEFAULT].stream, streams, setup.methods[0], packing, lengths)
    rows = config.train.batch_size if packing is None else packing.training.rows
    program = (
        jax.jit(setup.phases[0].step, donate_argnums=0)
        .lower(state, batches, jax.random.key(0), setup.anchors, setup.rates[0])
        .compile()
    )
    cost: Any = program.cost_analysis()
    trainable = {path: leaf for path, leaf in flatten(params).items() if setup.assignments[0].assigned[path] != FROZEN}
    sizes = {
        "parameters": _bytes(params), "gradients": _bytes(trainable), "optimizer state": _bytes(state.opt_state),
        **({"averages": _bytes(state.averages)} if state.averages else {}),
        **({"anchors": _bytes(setup.anchors)} if setup.anchors is not None else {}),
    }  # fmt: skip
    examples = {split: len(split_examples) for split, split_examples in datasets.examples.items()}
    return Inspected(
        _leaves(params, setup.assignments[0], config, model.backbone.kinds, layout),
        count_initialized(params, reinitialized_paths), examples, setup.schedule.total,
        (rows, inputs.tokens(model, next(iter(batches.values())))), sizes, cost["flops"], cost["bytes accessed"],
        _phases(params, setup), list(dict.fromkeys(advice)), program, layout.fsdp_size,
    )  # fmt: skip


def _leaves(params: Any, assignment: GroupAssignment, config: ConfigDict, kinds: Any, layout: Layout) -> list[Leaf]:
    decays, rate = decayed(assignment.assigned, kinds), config.optimizer.learning_rate
    rows = []
    for path, leaf in flatten(params).items():
        name = assignment.assigned[path]
        decay = assignment.groups[name].weight_decay * decays[path] if name in assignment.groups else 0.0
        factor, sharding = assignment.factor(path, rate), describe_sharding(layout.axes[path][1], layout.fsdp_size)
        rows.append(Leaf(path, leaf.shape, str(leaf.dtype), name, factor, decay, _bytes(leaf), sharding))
    return rows


def folded(leaves: Sequence[Leaf]) -> list[Leaf]:
    """Merges the rows of parameters that differ only in the block's number, as in `…/layer/0–3/…`.

    The bytes of a merged row are the sum over its parameters. It has the position of its first parameter.
    """
    merged: dict[tuple[Any, ...], list[tuple[int, Leaf]]] = {}
    for leaf in leaves:
        number = re.search(r"(?<=/)\d+(?=/)", leaf.path)
        path = leaf.path if number is None else f"{leaf.path[: number.start()]}{{}}{leaf.path[number.end() :]}"
        facts = dataclasses.replace(leaf, path=path)
        merged.setdefault(dataclasses.astuple(facts), []).append((int(number[0]) if number else 0, leaf))
    return [
        dataclasses.replace(
            rows[0][1],
            path=facts[0].replace("{}", ranges(number for number, _ in rows)),
            bytes=sum(leaf.bytes for _, leaf in rows),
        )
        for facts, rows in merged.items()
    ]


def ranges(numbers: Iterable[int]) -> str:
    """Formats numbers in order, with consecutive numbers as a range: `0–3,5`."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in runs)


def _phases(params: Any, setup: TrainSetup) -> list[InspectedPhase]:
    sizes = {path: int(np.prod(leaf.shape)) for path, leaf in flatten(params).items()}
    return [
        InspectedPhase(
            phase.first, assignment.rules, sum(sizes.values()) - sum(sizes[path] for path in assignment.frozen)
        )
        for phase, assignment in zip(setup.phases, setup.assignments, strict=True)
    ]


def _batches(
    train: Stream, others: Mapping[str, Stream], method: Method, packing: Packing | None, lengths: Sequence[int]
) -> dict[str, Mapping[str, jax.ShapeDtypeStruct]]:
    """Shapes of a packed batch, or of full batches of the longest examples of the streams, padded as in training."""
    streams, names = {"train": train, **others}, method.streams
    if packing is not None:
        shape = packing.training
        return {"train": _shapes(train.examples.take(np.full((shape.rows, shape.texts), -1, np.int64), shape.length))}
    longest = max(int(streams[name].examples.lengths.max()) for name in names)
    rows = {name: np.zeros(streams[name].batch_size, np.int64) for name in names}
    return {name: _shapes(streams[name].examples.take(rows[name], padded(longest, lengths))) for name in names}


def _shapes(fields: Mapping[str, np.ndarray]) -> Mapping[str, jax.ShapeDtypeStruct]:
    return {name: jax.ShapeDtypeStruct(array.shape, array.dtype) for name, array in fields.items()}


def _bytes(tree: Any) -> int:
    return sum(int(np.prod(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
