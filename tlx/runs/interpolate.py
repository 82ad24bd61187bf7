"""WiSE-FT (Wortsman et al. 2022): interpolates between the checkpoint's and a run's parameters."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from tlx.errors import TlxError, listed
from tlx.evaluation.metrics import default_monitor, higher_is_better
from tlx.params.interpolate import interpolate
from tlx.params.paths import flatten, unflatten
from tlx.pretrained.folder import resolve
from tlx.recipes.model import load_model
from tlx.recipes.trained import Trained, load_run
from tlx.runs.evaluate import datasets_of, measured


@dataclasses.dataclass(frozen=True)
class Line:
    """The result of `interpolate_run`.

    Attributes:
      shares: the weights α of the fine-tuned parameters that were tried.
      validation: the metrics of the validation set at each share.
      monitor: name of the metric that selects the share.
      chosen: the best share.
      trained: the run with the parameters of the best share.
      metrics: the metrics at the best share, `split/metric`.
    """

    shares: tuple[float, ...]
    validation: list[dict[str, float]]
    monitor: str
    chosen: float
    trained: Trained
    metrics: dict[str, float]


def interpolate_run(run: Path, shares: Sequence[float], step: int | None = None) -> Line:
    """Evaluates each share on the validation set, and the best share on all sets.

    If two shares have the same metric, the larger share is selected. Parameters that were not loaded from the
    checkpoint, such as a new head, keep the run's values.

    Args:
      run: the run directory.
      shares: the shares of the fine-tuned parameters, from 0 to 1.
      step: the step whose checkpoint is used; None: the best.

    Raises:
      TlxError: if the model has a model state, or its tags have no entities although the metric is one of entities.
    """
    trained = load_run(run, step)
    if trained.model_state:
        raise TlxError(
            f"the model of {run} has {listed(trained.model_state)}, which are valid for its own parameters only; tlx "
            "cannot compute them for interpolated parameters, so it does not interpolate this run."
        )
    start = starting_point(trained)
    examples = datasets_of(run, trained)
    head = trained.head
    monitor = (trained.config["train"]["monitor"] or f"validation/{default_monitor(head.kind, head.labels)}").partition(
        "/"
    )[2]

    def at(share: float) -> Trained:
        return dataclasses.replace(trained, params=interpolate(start, trained.params, share))

    validation = [measured(at(share), examples["validation"]) for share in shares]
    if monitor not in validation[0]:
        raise TlxError(f"{run} was selected by {monitor}, which its tags do not have: they form no entities.")
    sign = 1 if higher_is_better(head.kind, monitor) else -1
    _, chosen = max((sign * metrics[monitor], share) for share, metrics in zip(shares, validation, strict=True))
    metrics = {
        f"{part}/{name}": value
        for part, part_examples in examples.items()
        for name, value in measured(at(chosen), part_examples).items()
    }
    return Line(tuple(shares), validation, f"validation/{monitor}", chosen, at(chosen), metrics)


def starting_point(trained: Trained) -> Any:
    """Returns the checkpoint's parameters that a run started from, with None for parameters that were initialized.

    Raises:
      TlxError: if the run started from random weights.
    """
    config = ConfigDict(trained.config)
    folder = resolve(config.model.checkpoint)
    _, params, initialized = load_model(config, folder, dict(trained.model.heads_by_name))
    if config.model.weights != "pretrained":
        raise TlxError("this run started from random weights (config.model.weights), so there is no checkpoint.")
    return unflatten({path: None if path in initialized else leaf for path, leaf in flatten(params).items()})


def parse_shares(text: str) -> tuple[float, ...]:
    """Parses `FIRST:LAST:STEP` (which includes both ends), numbers joined by commas, or one number.

    Raises:
      TlxError: if the text has another form, or a number is not from 0 to 1.
    """
    try:
        if ":" in text:
            first, last, step = (float(part) for part in text.split(":"))
            count = round((last - first) / step)
            shares = tuple(min(round(first + index * step, 9), last) for index in range(count + 1))
        else:
            shares = tuple(float(part) for part in text.split(","))
    except (ValueError, ZeroDivisionError):
        shares = ()
    if not shares or not all(0 <= share <= 1 for share in shares):
        raise TlxError(f"--alpha is {text!r}; it is FIRST:LAST:STEP, such as 0:1:0.1, or numbers from 0 to 1.")
    return shares
