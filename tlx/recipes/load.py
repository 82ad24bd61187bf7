"""What a run reads, apart from what it does: data and checkpoint, each read once for all runs that share it."""

import dataclasses
import hashlib
import json
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from tlx.data.sources import fingerprint
from tlx.data.tables import as_table
from tlx.modalities.api import Modality
from tlx.models.custom import Custom
from tlx.models.forward import Variables
from tlx.models.model import Model
from tlx.pretrained.folder import resolve
from tlx.recipes.custom import initialize_custom
from tlx.recipes.datasets import Datasets, load_datasets
from tlx.recipes.inputs import open_inputs
from tlx.recipes.model import load_model
from tlx.training.tasks import DEFAULT


@dataclasses.dataclass(frozen=True)
class Loaded:
    """What a run reads.

    Attributes:
      folder: of the checkpoint.
      inputs: from rows to what the model takes.
      datasets: by task.
      model: a backbone with the heads of all tasks.
      variables: the model's parameters, and its model state where it has one.
      initialized: the paths that did not come with the checkpoint.
      custom: the class name of a module in the backbone's place; None of a checkpoint's own.
    """

    folder: Path
    inputs: Modality
    datasets: Mapping[str, Datasets]
    model: Model
    variables: Variables
    initialized: frozenset[str]
    custom: str | None = None


class Loader:
    """Loads data and checkpoints, and keeps those that were used last: runs that differ in a rate or in what is frozen
    read and tokenize nothing again.

    Data is kept by the digest of its config, of the files that it comes from and of the tokenizer's files; parameters
    by the digest of the config's model and of the checkpoint's files. What a key stands for is never changed in place.

    Args:
      size: how many data sets and how many sets of parameters are kept; 0 keeps none.
    """

    def __init__(self, size: int = 0):
        self.size = size
        self._kept: OrderedDict[str, Any] = OrderedDict()

    def load(
        self, config: ConfigDict, tables: Mapping[str, Any] | None = None, backbone: Custom | None = None
    ) -> Loaded:
        """Reads what a run of this config needs.

        Args:
          config: the run's, complete.
          tables: by split, data in memory in place of files (see `tlx.data.tables.as_table`).
          backbone: a module in the checkpoint's place.
        """
        given = {split: as_table(split, table) for split, table in (tables or {}).items()}
        folder = resolve(config.model.checkpoint)
        inputs = open_inputs(folder, config)
        datasets = self._once(
            None if given else _data_key(config, folder), lambda: load_datasets(config, inputs, given)
        )
        heads = {DEFAULT: datasets.head}
        if backbone is not None:
            made = initialize_custom(config, backbone, inputs, datasets)
            return Loaded(folder, inputs, {DEFAULT: datasets}, *made, custom=type(backbone.module).__name__)
        model, params, initialized = self._once(
            _digest("checkpoint", config.model, config.lora, config.seed, fingerprint(folder), repr(heads)),
            lambda: load_model(config, folder, heads),
        )
        return Loaded(folder, inputs, {DEFAULT: datasets}, model, Variables(params), initialized)

    def _once(self, key: str | None, make: Callable[[], Any]) -> Any:
        if key is None or not self.size:
            return make()
        if key not in self._kept:
            self._kept[key] = make()
        self._kept.move_to_end(key)
        while len(self._kept) > 2 * self.size:
            self._kept.popitem(last=False)
        return self._kept[key]


def _data_key(config: ConfigDict, folder: Path) -> str:
    """Of all that decides the examples."""
    files = [fingerprint(config.data[split]) for split in ("train", "validation", "test") if config.data[split]]
    image_size = config.model.image_size
    return _digest("data", config.data, config.head, config.augment, image_size, fingerprint(folder), files)


def _digest(*parts: Any) -> str:
    plain = [part.to_dict() if isinstance(part, ConfigDict) else part for part in parts]
    return hashlib.sha256(json.dumps(plain, default=os.fspath).encode()).hexdigest()
