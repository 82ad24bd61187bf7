"""Features of a file from a checkpoint or a trained run, for the command `tlx features`."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tlx.adapters.model import LoraModel
from tlx.data.readers import READERS
from tlx.data.sources import SETS, load
from tlx.errors import TlxError, listed
from tlx.features.spec import FeatureSpec
from tlx.features.transformer import extract
from tlx.modalities.api import Columns, Modality
from tlx.modalities.loaded import load_pretrained
from tlx.models.forward import Variables
from tlx.models.model import Model
from tlx.recipes.trained import load_run


def features_of_file(
    source: str, data: str, spec: FeatureSpec, *, columns: Mapping[str, str | None] | None = None,
    keep: Sequence[str] = (), batch_size: int = 32, cache: str | None = None, step: int | None = None,
    task: str | None = None, loaded: Callable[[int], None] = lambda _: None,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Computes the features of a file.

    Args:
      source: a checkpoint, or a run directory, whose best checkpoint is used.
      data: a data spec `KIND:PATH`, a file whose suffix is its kind, or a folder of images.
      spec: which outputs of the backbone are the features.
      columns: names of the input columns (`text`, `pair`, `image`) if they differ from the run's, or, for a checkpoint,
        from `text` and `image`.
      keep: names of columns of the file that are returned too.
      batch_size: examples of a forward pass.
      cache: folder in which features are cached; None: no caching.
      step: for a run, the step of the checkpoint; None: the best.
      task: for a run of several tasks, the one whose columns are read and whose adapter is applied, if it has one.
      loaded: for a run, is called with the step that is used.

    Returns:
      `features`, float32 (rows, vectors * hidden), and the columns of `keep`.

    Raises:
      TlxError: if the file or the columns are invalid.
    """
    model, variables, modality, column_names = _open(source, step, task, loaded)
    column_names = {**column_names, **{name: column for name, column in (columns or {}).items() if column}}
    table = load(spec_of(data))
    kept = {name: np.asarray(table.column(name)) for name in keep}
    for name, column in kept.items():
        if column.dtype == object or name == "features":
            raise TlxError(f"the column {name!r} cannot be kept beside the features; keep numbers or texts.")
    examples = modality.encode(Columns.of(modality, column_names), None, table, once=True)
    features = extract(
        model, variables.params, modality, examples, spec, batch_size=batch_size, cache=cache,
        model_state=variables.model_state,
    )  # fmt: skip
    return {"features": features, **kept}


def spec_of(data: str) -> str:
    """Returns a path as a data spec, with the kind from its suffix; a data spec is returned unchanged."""
    if data.partition(":")[0] in {**READERS, **SETS}:
        return data
    path = Path(data)
    suffix = "folder" if path.is_dir() else path.suffix.lstrip(".")
    if suffix not in READERS and suffix != "folder":
        raise TlxError(f"{data}: its suffix is not one of {listed(READERS)}; name the format, as in csv:{data}.")
    return f"{suffix}:{data}"


def _open(
    source: str, step: int | None, task: str | None, loaded: Callable[[int], None]
) -> tuple[Model, Variables, Modality, Mapping[str, Any]]:
    """Model, variables, modality, and the names of the columns if they are known."""
    if (Path(source) / "checkpoints").is_dir():
        run = load_run(Path(source), step)
        loaded(run.step)
        run = run if task is None else run.of_task(task)
        if isinstance(run.model, LoraModel) and run.model.by_row:
            raise TlxError(f"each of the tasks {listed(run.heads, 99)} has an adapter; name one with --task.")
        return run.model, run.variables, run.inputs, run.config["data"]
    if step is not None:
        raise TlxError(f"--step {step} names a step of a run, and {source} is no run directory with checkpoints.")
    if task is not None:
        raise TlxError(f"--task {task} names a task of a run, and {source} is no run directory with checkpoints.")
    checkpoint = load_pretrained(source, heads={})
    return checkpoint.model, Variables(checkpoint.params), checkpoint.modality, {}
