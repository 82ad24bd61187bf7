"""A file's features, from a checkpoint or a trained run: what the command `tlx features` writes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tlx.data.readers import READERS
from tlx.data.sources import SETS, load
from tlx.errors import TlxError, listed
from tlx.features.spec import FeatureSpec
from tlx.features.transformer import extract
from tlx.modalities.api import Columns, Modality
from tlx.modalities.loaded import load_pretrained
from tlx.models.forward import Variables
from tlx.models.model import Model
from tlx.recipes.run_directory import load_run


def features_of_file(
    source: str, given: str, spec: FeatureSpec, *, columns: Mapping[str, str | None] | None = None,
    keep: Sequence[str] = (), batch_size: int = 32, cache: str | None = None,
) -> dict[str, np.ndarray]:  # fmt: skip
    """`features`, float32 (rows, vectors · hidden), and the columns of `keep`, as an archive of columns.

    Args:
      source: a checkpoint, or a run directory, of which the best checkpoint is taken.
      given: a data spec `KIND:PATH`, a file whose suffix says its kind, or a folder of images.
      columns: of the inputs, where they are called otherwise than in the run, or than `text` and `image`.
    """
    model, variables, modality, named = _opened(source)
    named = {**named, **{name: column for name, column in (columns or {}).items() if column}}
    table = load(spec_of(given))
    kept = {name: np.asarray(table.column(name)) for name in keep}
    for name, column in kept.items():
        if column.dtype == object or name == "features":
            raise TlxError(f"the column {name!r} cannot be kept beside the features; keep numbers or texts.")
    examples = modality.encode(Columns.of(modality, named), None, table)
    found = extract(
        model, variables.params, modality, examples, spec, batch_size=batch_size, cache=cache,
        model_state=variables.model_state,
    )  # fmt: skip
    return {"features": found, **kept}


def spec_of(given: str) -> str:
    """A path as a data spec."""
    if given.partition(":")[0] in {**READERS, **SETS}:
        return given
    path = Path(given)
    suffix = "folder" if path.is_dir() else path.suffix.lstrip(".")
    if suffix not in READERS and suffix != "folder":
        raise TlxError(f"{given}: its suffix is none of {listed(READERS)}; say what it is, as in csv:{given}.")
    return f"{suffix}:{given}"


def _opened(source: str) -> tuple[Model, Variables, Modality, Mapping[str, Any]]:
    """Model, variables, modality, and what is known of the columns."""
    if (Path(source) / "checkpoints").is_dir():
        run = load_run(Path(source))
        return run.model, run.variables, run.inputs, run.config["data"]
    loaded = load_pretrained(source, heads={})
    return loaded.model, Variables(loaded.params), loaded.modality, {}
