"""What a config would train, before anything is trained: every parameter's group, and what a step costs."""

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from tlx.data.plan import padded
from tlx.modalities.api import Inputs
from tlx.optim.groups import decayed
from tlx.parallel.layout import Layout
from tlx.parallel.placement import WHOLE, described
from tlx.params.partition import FROZEN
from tlx.params.paths import flatten
from tlx.params.rules import Rules
from tlx.pretrained.folder import resolve
from tlx.pretrained.load import abstract_params, selected
from tlx.recipes.advice import advise
from tlx.recipes.datasets import Datasets, load_datasets, with_splits
from tlx.recipes.defaults import with_current_names
from tlx.recipes.finetune import check, check_mixing, lay_out, make_task
from tlx.recipes.inputs import open_inputs
from tlx.recipes.model import adapted, describe_model
from tlx.recipes.parameters import GroupAssignment
from tlx.recipes.regularise import count_initialized, reinitialized
from tlx.recipes.train import TrainSetup, train_setup
from tlx.training.tasks import DEFAULT


@dataclasses.dataclass(frozen=True)
class Leaf:
    """One parameter. multiplier: of the learning rate; decay: the group's, 0 where this kind of leaf is not decayed.
    sharding: `whole` on each device, or the axis along which it is cut and into how many parts."""

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
    """first: its first step. rules: with shorthands spelt out. trainable: how many parameters learn."""

    first: int
    rules: Rules
    trainable: int


@dataclasses.dataclass(frozen=True)
class Inspected:
    """leaves: all parameters. drawn: how many parameters `model.reinitialise` draws anew. steps: of the run. batch:
    (examples, tokens) of the costliest step. bytes: by what holds them while training. flops, accessed: of that step,
    as XLA counts them for this machine (accessed: in bytes), on one device. phases: all; the rest is of the first.
    advice: what is allowed and usually a mistake. ways: over how many devices parameters are cut."""

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
    ways: int = 1


def inspect(config: ConfigDict) -> Inspected:
    """Reads the data, the checkpoint's config and tokenizer; no weights. The step is compiled, not run."""
    config = with_current_names(config)
    check(config)
    config = with_splits(config).copy_and_resolve_references()
    config.train.accumulate = 1  # XLA counts a loop's body once
    folder = resolve(config.model.checkpoint)
    inputs = open_inputs(folder, config)
    datasets = load_datasets(config, inputs)
    model = adapted(describe_model(folder, config.model, {"default": datasets.head}), config)
    params = abstract_params(model)
    again = selected(
        flatten(params), reinitialized(config.model, model.backbone.config.block_paths), model.backbone.kinds
    )
    pretrained = config.model.weights == "pretrained"
    initialized = {path for path in flatten(params) if path in again or path.startswith("heads/") or not pretrained}
    tasks = {DEFAULT: make_task(DEFAULT, config, datasets)}
    setup = train_setup(config, model, params, tasks, inputs, initialized)
    layout = lay_out(config).with_params(params, model.backbone.kinds)
    check_mixing(layout, inputs)
    state = jax.eval_shape(setup.begin, params)
    batch = _batch(config, datasets, inputs)
    cost: Any = (
        jax.jit(setup.phases[0].step, donate_argnums=0)
        .lower(state, {"train": batch}, jax.random.key(0), setup.anchors, setup.rates[0])
        .compile()
        .cost_analysis()
    )
    trainable = {path: leaf for path, leaf in flatten(params).items() if setup.assignments[0].assigned[path] != FROZEN}
    sizes = {
        "parameters": _bytes(params), "gradients": _bytes(trainable), "optimizer state": _bytes(state.opt_state),
        **({"averages": _bytes(state.averages)} if state.averages else {}),
        **({"anchors": _bytes(setup.anchors)} if setup.anchors is not None else {}),
    }  # fmt: skip
    examples = {part: len(found) for part, found in datasets.examples.items()}
    advice = [
        sentence
        for assignment in setup.assignments
        for sentence in advise(config, assignment, setup.schedule.total, examples["train"])
    ]
    return Inspected(
        _leaves(params, setup.assignments[0], config, model.backbone.kinds, layout), count_initialized(params, again),
        examples, setup.schedule.total,
        (config.train.batch_size, inputs.tokens(model, batch)), sizes, cost["flops"], cost["bytes accessed"],
        _phases(params, setup), list(dict.fromkeys(advice)), layout.ways,
    )  # fmt: skip


def _leaves(params: Any, assignment: GroupAssignment, config: ConfigDict, kinds: Any, layout: Layout) -> list[Leaf]:
    decays, rate = decayed(assignment.assigned, kinds), config.optimizer.learning_rate
    rows = []
    for path, leaf in flatten(params).items():
        name = assignment.assigned[path]
        decay = assignment.groups[name].weight_decay * decays[path] if name in assignment.groups else 0.0
        factor, sharding = assignment.factor(path, rate), described(layout.axes[path][1], layout.ways)
        rows.append(Leaf(path, leaf.shape, str(leaf.dtype), name, factor, decay, _bytes(leaf), sharding))
    return rows


def folded(leaves: Sequence[Leaf]) -> list[Leaf]:
    """One row for the leaves of several blocks that differ in the block's number alone: `…/layer/0–3/…`, with the bytes
    of all of them. The rows stand where their first leaf stood."""
    alike: dict[tuple[Any, ...], list[tuple[int, Leaf]]] = {}
    for leaf in leaves:
        number = re.search(r"(?<=/)\d+(?=/)", leaf.path)
        path = leaf.path if number is None else f"{leaf.path[: number.start()]}{{}}{leaf.path[number.end() :]}"
        facts = dataclasses.replace(leaf, path=path)
        alike.setdefault(dataclasses.astuple(facts), []).append((int(number[0]) if number else 0, leaf))
    return [
        dataclasses.replace(
            of[0][1], path=facts[0].replace("{}", ranges(n for n, _ in of)), bytes=sum(leaf.bytes for _, leaf in of)
        )
        for facts, of in alike.items()
    ]


def ranges(numbers: Iterable[int]) -> str:
    """`0–3,5`: numbers in order, those that follow each other as first and last."""
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


def _batch(config: ConfigDict, datasets: Datasets, inputs: Inputs) -> Mapping[str, jax.ShapeDtypeStruct]:
    """Shapes of a full batch of the longest texts that this data has, padded as they are in training."""
    train = datasets.examples["train"]
    length = padded(int(train.lengths.max()), inputs.length_buckets)
    rows = train.take(np.zeros(config.train.batch_size, np.int64), length)
    return {name: jax.ShapeDtypeStruct(array.shape, array.dtype) for name, array in rows.items()}


def _bytes(tree: Any) -> int:
    return sum(int(np.prod(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
