"""Training from cached features: the frozen lower part of a backbone is computed once instead of in each step."""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from tlx.data.examples import ExampleSet
from tlx.errors import TlxError
from tlx.features.compute import Extractor, FeatureSet
from tlx.features.examples import FeatureExamples
from tlx.features.spec import FeatureSpec, below
from tlx.features.store import default_folder, identity, load_or_compute
from tlx.modalities.api import Inputs, Modality
from tlx.modalities.features import CachedInputs
from tlx.models.forward import Variables
from tlx.models.heads import PER_TOKEN, Head
from tlx.models.model import Model, reads_pooler
from tlx.parallel.layout import Layout
from tlx.params.partition import FROZEN
from tlx.recipes.frozen import frozen_blocks
from tlx.recipes.packing import Packing
from tlx.training.tasks import Task

CACHES = ("auto", "memory", "disk", "off")


def cacheable_features(model: Model, groups: Mapping[str, str], head: Head) -> FeatureSpec | None:
    """Returns which output of the backbone can be cached, or None if there is none.

    It is the output of the last block below which no parameter is trained and therefore no dropout is applied. The
    features are the pooled vector if the whole backbone is frozen and the head reads a pooled vector, the first token
    if the head reads only this token of the last block, and otherwise all tokens.

    Args:
      model: the model.
      groups: the group of each path; `frozen` means that it is trained in no phase of the run.
      head: the head that reads the features.
    """
    config: Any = model.backbone.config
    frozen = frozen_blocks(model, dict(groups))
    prefixes = [f"backbone/{path}" for path in config.block_paths]
    layer = next((i for i, prefix in enumerate(prefixes) if prefix not in frozen), len(prefixes)) - 1
    if layer < 1 or not model.backbone.partial or any(path.startswith("adapters/") for path in groups):
        return None
    if any(groups[path] != FROZEN for path in below(model, FeatureSpec((layer,), None))):
        return None
    if layer < config.num_blocks or head.kind in PER_TOKEN:
        return FeatureSpec((layer,), None)
    pooling = head.pooling
    if pooling == "pooler":
        pooling = "pooler" if reads_pooler(head, config) else "cls"
    if all(group == FROZEN for path, group in groups.items() if path.startswith("backbone/")):
        return FeatureSpec((), pooling)
    return FeatureSpec((layer,), None if pooling == "mean" else "cls" if pooling == "pooler" else pooling)


def from_features(
    config: ConfigDict, model: Model, variables: Variables, groups: Mapping[str, str], inputs: Modality, task: Task,
    layout: Layout, packing: Packing | None, length_buckets: tuple[int, ...],
) -> tuple[Inputs, Task] | None:  # fmt: skip
    """Computes or loads the features of a task, and makes a task and inputs that use them.

    A line is printed that says what is cached, its size and where, before anything is computed.

    Args:
      config: the run's config, whose `features` and `train.eval_batch_size` are used.
      model: the model.
      variables: the initial parameters and model state. The part that is cached does not change in training.
      groups: the group of each path; `frozen` means that it is trained in no phase of the run.
      inputs: the modality.
      task: the task whose examples are replaced by features.
      layout: the placement of arrays on the devices.
      packing: the shapes of packed batches; None: texts are not packed.
      length_buckets: the lengths to which batches are padded where texts are not packed.

    Returns:
      Inputs and a task whose batches hold features; None if no features are cached.
    """
    settings = config.features
    log = functools.partial(print, flush=True) if layout.is_main else lambda _: None
    changing = _changing(inputs, task.head)
    spec = None if settings.cache == "off" or changing else cacheable_features(model, groups, task.head)
    if spec is None:
        if settings.cache in ("memory", "disk"):
            reason = changing or "no whole block is frozen below all trainable parameters in every phase"
            log(f"features: none are cached, because {reason}.")
        return None
    placed = layout.put(variables)
    extractor = Extractor(
        model, placed.params, inputs, spec, batch_size=config.train.eval_batch_size, layout=layout,
        model_state=placed.model_state, length_buckets=length_buckets,
        shape=None if packing is None else packing.evaluation,
    )  # fmt: skip
    size = sum(extractor.shape_of(examples).bytes for examples in task.splits.values())
    count = sum(len(examples) for examples in task.splits.values())
    description = f"{spec} for {count:,} examples, {size:,} bytes"
    if size > settings.limit:
        log(f"features: {description}, exceed config.features.limit, {settings.limit:,}; none are cached.")
        return None
    folder = Path(settings.folder).expanduser().absolute() if settings.folder else default_folder()
    log(f"features: {description}, kept {f'in {folder}' if settings.cache == 'disk' else 'in memory'}.")

    def features(examples: ExampleSet) -> FeatureSet:
        if settings.cache != "disk":
            return extractor(examples)
        return load_or_compute(folder, identity(extractor, examples), extractor, examples)

    cached = CachedInputs(spec.layers[0] if spec.layers else None, length_buckets)
    splits: dict[str, ExampleSet] = {
        split: FeatureExamples(examples, features(examples), cached.field, inputs.has_lengths)
        for split, examples in task.splits.items()
    }
    return cached, dataclasses.replace(task, splits=splits)


def _changing(inputs: Modality, head: Head) -> str:
    """Why the inputs of the backbone are others in each step; "" if they are not."""
    if head.kind == "masked_lm":
        return "other tokens are masked in each step (config.masking)"
    augmented = inputs.training(head) != inputs.prepare
    return "the images are augmented in each step (config.augment)" if augmented else ""


def check_features(config: ConfigDict) -> None:
    """Raises `TlxError` for invalid values of `config.features`."""
    if config.cache not in CACHES:
        raise TlxError(f"config.features.cache is {config.cache!r}; it is 'auto', 'memory', 'disk' or 'off'.")
    if config.limit < 0:
        raise TlxError(f"config.features.limit is {config.limit}; it is a number of bytes, at least 0.")
