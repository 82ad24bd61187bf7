"""Training from features: where what is frozen lies below all that learns, it is computed once and not every step."""

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
from tlx.parallel.processes import several
from tlx.params.partition import FROZEN
from tlx.recipes.train import frozen_blocks
from tlx.training.tasks import Task

CACHES = ("auto", "memory", "disk", "off")


def cacheable_features(model: Model, groups: Mapping[str, str], head: Head) -> FeatureSpec | None:
    """The highest cut below which nothing learns and so nothing drops; None where there is no block below it.

    groups: of each path, for the whole run. A head that reads a pooled vector of a backbone in which nothing learns is
    given that; one that reads first tokens alone, those; any other every token.
    """
    config: Any = model.backbone.config
    still = frozen_blocks(model, dict(groups))
    prefixes = [f"backbone/{path}" for path in config.block_paths]
    lowest = next((i for i, prefix in enumerate(prefixes) if prefix not in still), len(prefixes)) - 1
    if lowest < 1 or config.model_type == "custom" or any(path.startswith("adapters/") for path in groups):
        return None
    if any(groups[path] != FROZEN for path in below(model, FeatureSpec((lowest,), None))):
        return None
    if lowest < config.num_blocks or head.kind in PER_TOKEN:
        return FeatureSpec((lowest,), None)
    pooling = head.pooling
    if pooling == "pooler":
        pooling = "pooler" if reads_pooler(head, config) else "cls"
    if all(group == FROZEN for path, group in groups.items() if path.startswith("backbone/")):
        return FeatureSpec((), pooling)
    return FeatureSpec((lowest,), None if pooling == "mean" else "cls" if pooling == "pooler" else pooling)


def from_features(
    config: ConfigDict, model: Model, variables: Variables, groups: Mapping[str, str], inputs: Modality, task: Task,
    layout: Layout,
) -> tuple[Inputs, Task] | None:  # fmt: skip
    """Inputs and a task whose batches hold features, computed or found; None where training goes the long road.

    Says in one line what is kept, of how many bytes and where, before that is computed.

    Args:
      config: the run's, of which `features` is read.
      variables: what the run begins with; below the cut nothing of it changes, statistics included.
      groups: of each path; frozen is what learns in no phase.

    Raises:
      TlxError: several processes, and a folder in which all of them would write.
    """
    wanted = config.features
    tell = functools.partial(print, flush=True) if layout.is_main else lambda _: None
    if wanted.cache == "disk" and several():
        raise TlxError("config.features.cache is 'disk', which is of one process; of several take 'memory' or 'off'.")
    initialized = inputs.training(task.head) != inputs.prepare
    spec = None if wanted.cache == "off" or initialized else cacheable_features(model, groups, task.head)
    if spec is None:
        if wanted.cache in ("memory", "disk"):
            why = "no block lies below all that learns, from the first step to the last"
            why = "training draws images anew (config.augment)" if initialized else why
            tell(f"features: none are kept, because {why}.")
        return None
    placed = layout.put(variables)
    extractor = Extractor(
        model, placed.params, inputs, spec, batch_size=config.train.eval_batch_size, layout=layout,
        model_state=placed.model_state,
    )  # fmt: skip
    size = sum(extractor.shape_of(examples).bytes for examples in task.splits.values())
    count = sum(len(examples) for examples in task.splits.values())
    said = f"{spec} for {count:,} examples, {size:,} bytes"
    if size > wanted.limit:
        tell(f"features: {said}, are more than config.features.limit, {wanted.limit:,}; none are kept.")
        return None
    folder = Path(wanted.folder).expanduser().absolute() if wanted.folder else default_folder()
    tell(f"features: {said}, kept {f'in {folder}' if wanted.cache == 'disk' else 'in memory'}.")

    def kept(examples: ExampleSet) -> FeatureSet:
        if wanted.cache != "disk":
            return extractor(examples)
        return load_or_compute(folder, identity(extractor, examples), extractor, examples)

    cached = CachedInputs(spec.layers[0] if spec.layers else None, inputs.length_buckets)
    found: dict[str, ExampleSet] = {
        part: FeatureExamples(examples, kept(examples), cached.field, inputs.has_lengths)
        for part, examples in task.splits.items()
    }
    return cached, dataclasses.replace(task, splits=found)


def check_features(config: ConfigDict) -> None:
    """Raises `TlxError` for a `config.features` that says nothing."""
    if config.cache not in CACHES:
        raise TlxError(f"config.features.cache is {config.cache!r}; it is 'auto', 'memory', 'disk' or 'off'.")
    if config.limit < 0:
        raise TlxError(f"config.features.limit is {config.limit}; it is a number of bytes, at least 0.")
