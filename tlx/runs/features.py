"""A file's features, from a checkpoint or a trained run: what the command `tlx features` writes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tlx.data import labels
from tlx.data.sources import READERS, SETS, Table, load
from tlx.errors import TlxError, listed
from tlx.features.spec import FeatureSpec
from tlx.features.transformer import Preprocessor, extract
from tlx.models.forward import Variables
from tlx.models.model import Model
from tlx.pretrained.image_processor import ImageProcessor
from tlx.pretrained.loaded import load_pretrained
from tlx.recipes.inputs import TextInputs
from tlx.recipes.run_directory import load_run

Columns = dict[str, str | None]


def features_of_file(
    source: str, given: str, spec: FeatureSpec, *, columns: Columns | None = None, keep: Sequence[str] = (),
    batch_size: int = 32, cache: str | None = None,
) -> dict[str, np.ndarray]:  # fmt: skip
    """`features`, float32 (rows, vectors · hidden), and the columns of `keep`, as an archive of columns.

    Args:
      source: a checkpoint, or a run directory, of which the best checkpoint is taken.
      given: a data spec `KIND:PATH`, a file whose suffix says its kind, or a folder of images.
      columns: `text`, `pair` and `image`, where they are called otherwise than in the run, or than so.
    """
    model, variables, preprocessor, named = _opened(source)
    named |= {name: column for name, column in (columns or {}).items() if column}
    table = load(spec_of(given))
    kept = {name: np.asarray(table.column(name)) for name in keep}
    for name, column in kept.items():
        if column.dtype == object or name == "features":
            raise TlxError(f"the column {name!r} cannot be kept beside the features; keep numbers or texts.")
    rows = _rows(table, named, isinstance(preprocessor, ImageProcessor))
    found = extract(
        model, variables.params, preprocessor, rows, spec, batch_size=batch_size, cache=cache,
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


def _opened(source: str) -> tuple[Model, Variables, Preprocessor, Columns]:
    if (Path(source) / "checkpoints").is_dir():
        run = load_run(Path(source))
        preprocessor = run.inputs.tokenizer if isinstance(run.inputs, TextInputs) else run.inputs.processor  # type: ignore[attr-defined]
        data = run.config["data"]
        return run.model, run.variables, preprocessor, {name: data.get(name) for name in ("text", "pair", "image")}
    loaded = load_pretrained(source, heads={})
    return loaded.model, Variables(loaded.params), loaded.preprocessor, {"text": "text", "pair": None, "image": "image"}


def _rows(table: Table, columns: Columns, of_images: bool) -> Any:
    if of_images:
        return table.column(str(columns["image"]))
    texts = [labels.texts(table, name) for name in (columns["text"], columns["pair"]) if name]
    return texts[0] if len(texts) == 1 else list(zip(*texts, strict=True))
