"""Training from features: where what is frozen lies below all that learns, it is computed once and not every step."""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from tlx.data.examples import ExampleSet
from tlx.data.sources import Table
from tlx.errors import TlxError
from tlx.features.compute import Extractor, FeatureSet
from tlx.features.examples import FeatureExamples
from tlx.features.spec import FeatureSpec, below
from tlx.features.store import default_folder, identity, load_or_compute
from tlx.methods.finetune import Prepare
from tlx.models.heads import PER_TOKEN, Head
from tlx.models.model import Model, reads_pooler
from tlx.parallel.layout import Layout
from tlx.parallel.processes import several
from tlx.params.partition import FROZEN
from tlx.recipes.datasets import Datasets
from tlx.recipes.inputs import ImageInputs, Inputs, Rows, TextInputs
from tlx.recipes.train import frozen_blocks

CACHES = ("auto", "memory", "disk", "off")


@dataclasses.dataclass(frozen=True)
class CachedInputs:
    """Inputs whose batches hold features.

    inputs: what the features were computed from. start: the block that runs first on `hidden_state`; None where the
    batch holds `pooled` and no block runs.
    """

    inputs: TextInputs | ImageInputs
    start: int | None

    @property
    def length_buckets(self) -> tuple[int, ...]:
        return self.inputs.length_buckets

    def whole(self, data: ConfigDict, table: Table) -> list[str]:
        return self.inputs.whole(data, table)

    def keys(self, data: ConfigDict, table: Table) -> list[str]:
        return self.inputs.keys(data, table)

    def encode(self, data: ConfigDict, head: Head, table: Table, rows: np.ndarray) -> ExampleSet:
        return self.inputs.encode(data, head, table, rows)

    def prepare(self, rows: Rows, key: jax.Array | None) -> tuple[dict[str, Any], Rows]:
        del key
        if self.start is None:
            return {"pooled": rows["pooled"]}, rows
        given = {name: rows[name] for name in ("hidden_state", "attention_mask") if name in rows}
        return {**given, "start": self.start}, rows

    def training(self, head: Head) -> Prepare:
        del head
        return self.prepare

    def tokens(self, model: Model, batch: Mapping[str, Any]) -> int:
        del model
        return int(batch["pooled" if self.start is None else "hidden_state"].shape[1])

    def save(self, folder: Path) -> None:
        self.inputs.save(folder)


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
    config: ConfigDict, model: Model, params: Any, groups: Mapping[str, str], inputs: Inputs, datasets: Datasets,
    layout: Layout,
) -> tuple[Inputs, Datasets] | None:  # fmt: skip
    """Inputs and sets whose batches hold features, computed or found; None where training goes the long road.

    Says in one line what is kept, of how many bytes and where, before that is computed.

    Args:
      config: the run's, of which `features` is read.
      groups: of each path; frozen is what learns in no phase.

    Raises:
      TlxError: several processes, and a folder in which all of them would write.
    """
    wanted = config.features
    tell = functools.partial(print, flush=True) if layout.is_main else lambda _: None
    assert isinstance(inputs, TextInputs | ImageInputs)
    if wanted.cache == "disk" and several():
        raise TlxError("config.features.cache is 'disk', which is of one process; of several take 'memory' or 'off'.")
    initialized = inputs.training(datasets.head) != inputs.prepare
    spec = None if wanted.cache == "off" or initialized else cacheable_features(model, groups, datasets.head)
    if spec is None:
        if wanted.cache in ("memory", "disk"):
            why = "no block lies below all that learns, from the first step to the last"
            why = "training draws images anew (config.augment)" if initialized else why
            tell(f"features: none are kept, because {why}.")
        return None
    extractor = Extractor(
        model, layout.put(params), inputs.prepare, spec,
        batch_size=config.train.eval_batch_size, length_buckets=inputs.length_buckets, spread=layout,
    )  # fmt: skip
    size = sum(extractor.layout(examples).bytes for examples in datasets.examples.values())
    count = sum(len(examples) for examples in datasets.examples.values())
    said = f"{spec} for {count:,} examples, {size:,} bytes"
    if size > wanted.limit:
        tell(f"features: {said}, are more than config.features.limit, {wanted.limit:,}; none are kept.")
        return None
    folder = Path(wanted.folder).expanduser().absolute() if wanted.folder else default_folder()
    tell(f"features: {said}, kept {f'in {folder}' if wanted.cache == 'disk' else 'in memory'}.")
    preprocessor = inputs.tokenizer if isinstance(inputs, TextInputs) else inputs.processor

    def kept(examples: ExampleSet) -> FeatureSet:
        if wanted.cache != "disk":
            return extractor(examples)
        return load_or_compute(folder, identity(extractor, preprocessor, examples), extractor, examples)

    start = spec.layers[0] if spec.layers else None
    field = "pooled" if start is None else "hidden_state"
    found: dict[str, ExampleSet] = {
        part: FeatureExamples(examples, kept(examples), field, isinstance(inputs, TextInputs))
        for part, examples in datasets.examples.items()
    }
    return CachedInputs(inputs, start), dataclasses.replace(datasets, examples=found)


def check_features(config: ConfigDict) -> None:
    """Raises `TlxError` for a `config.features` that says nothing."""
    if config.cache not in CACHES:
        raise TlxError(f"config.features.cache is {config.cache!r}; it is 'auto', 'memory', 'disk' or 'off'.")
    if config.limit < 0:
        raise TlxError(f"config.features.limit is {config.limit}; it is a number of bytes, at least 0.")
