"""Reads the data and the checkpoint of a run. Several runs can share what was read."""

import dataclasses
import functools
import hashlib
import json
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from tlx.data.sources import source_digest
from tlx.data.tables import as_table
from tlx.errors import TlxError
from tlx.modalities.api import Modality
from tlx.models.custom import Custom
from tlx.models.forward import Variables, init_model_state
from tlx.models.model import Model, dummy_inputs
from tlx.pretrained.folder import resolve
from tlx.recipes.custom import initialize_custom
from tlx.recipes.datasets import Datasets, load_datasets
from tlx.recipes.inputs import open_inputs
from tlx.recipes.model import load_model
from tlx.recipes.splits import PARTS
from tlx.recipes.tasks import configs_by_task
from tlx.training.tasks import DEFAULT


@dataclasses.dataclass(frozen=True)
class Loaded:
    """What a run reads.

    Attributes:
      folder: the checkpoint's folder.
      inputs: turns rows of data into the model's inputs.
      datasets: the data by task.
      model: a backbone with the heads of all tasks.
      variables: the model's parameters and, if it has one, its model state.
      initialized: paths of the parameters that were initialized, not loaded from the checkpoint.
      custom: class name of a custom backbone; None if the backbone is the checkpoint's.
    """

    folder: Path
    inputs: Modality
    datasets: Mapping[str, Datasets]
    model: Model
    variables: Variables
    initialized: frozenset[str]
    custom: str | None = None


class Loader:
    """Loads data and checkpoints, and caches those that were used last.

    Runs that differ only in, say, the learning rate or the frozen parameters then share the tokenized data and the
    loaded parameters. The key of data is a digest of its config, its files and the tokenizer's files. The key of
    parameters is a digest of the model's config and the checkpoint's files. Cached values are never changed in place.

    Args:
      size: number of data sets and of parameter trees that are cached; 0: no caching.
    """

    def __init__(self, size: int = 0):
        self.size = size
        self._cache: OrderedDict[str, Any] = OrderedDict()

    def load(
        self, config: ConfigDict, tables: Mapping[str, Any] | None = None, backbone: Custom | None = None
    ) -> Loaded:
        """Reads what a run of this config needs.

        Args:
          config: the run's complete config.
          tables: by split, data in memory that replaces files (see `tlx.data.tables.as_table`).
          backbone: a custom module that replaces the checkpoint's backbone.
        """
        in_memory = {split: as_table(split, table) for split, table in (tables or {}).items()}
        folder = resolve(config.model.checkpoint)
        inputs = open_inputs(folder, config)
        configs = configs_by_task(config)
        if DEFAULT not in configs and (in_memory or backbone is not None):
            raise TlxError("config.tasks reads files with a checkpoint's backbone; leave out tables and backbone.")
        datasets = {
            name: self._cached(
                None if in_memory else functools.partial(_data_key, own, folder),
                functools.partial(load_datasets, own, inputs, in_memory),
            )
            for name, own in configs.items()
        }
        heads = {name: each.head for name, each in datasets.items()}
        if backbone is not None:
            custom, variables, initialized = initialize_custom(config, backbone, inputs, datasets[DEFAULT])
            name = type(backbone.module).__name__
            return Loaded(folder, inputs, datasets, custom, variables, initialized, custom=name)
        model, params, initialized = self._cached(
            lambda: _digest("checkpoint", config.model, config.lora, config.seed, source_digest(folder), repr(heads)),
            lambda: load_model(config, folder, heads),
        )
        has_state = model.backbone.config.has_state
        variables = Variables(params, init_model_state(model, dummy_inputs(model)) if has_state else {})
        return Loaded(folder, inputs, datasets, model, variables, initialized)

    def _cached(self, make_key: Callable[[], str] | None, make: Callable[[], Any]) -> Any:
        if make_key is None or not self.size:  # the key is not made either: it reads the data
            return make()
        key = make_key()
        if key not in self._cache:
            self._cache[key] = make()
        self._cache.move_to_end(key)
        while len(self._cache) > 2 * self.size:
            self._cache.popitem(last=False)
        return self._cache[key]


def _data_key(config: ConfigDict, folder: Path) -> str:
    """Digest of everything that determines the examples."""
    files = [source_digest(config.data[split]) for split in PARTS if config.data[split]]
    files += [source_digest(source) for source in [*config.data.sources, *(spec for spec, _ in config.data.exclude)]]
    image_size = config.model.image_size
    return _digest("data", config.data, config.head, config.augment, image_size, source_digest(folder), files)


def _digest(*parts: Any) -> str:
    plain = [part.to_dict() if isinstance(part, ConfigDict) else part for part in parts]
    return hashlib.sha256(json.dumps(plain, default=os.fspath).encode()).hexdigest()
