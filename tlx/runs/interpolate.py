"""WiSE-FT (Wortsman et al. 2022): between the checkpoint's parameters and a trained run's, chosen on validation."""

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
from tlx.recipes.run_directory import Trained, load_run
from tlx.runs.evaluate import datasets_of, measured


@dataclasses.dataclass(frozen=True)
class Line:
    """shares: of the fine-tuned parameters (α), and validation's metrics at each. monitor: what chose, by name.
    chosen: the best share; trained: the run with the parameters there; metrics: theirs, `split/metric`."""

    shares: tuple[float, ...]
    validation: list[dict[str, float]]
    monitor: str
    chosen: float
    trained: Trained
    metrics: dict[str, float]


def interpolate_run(run: Path, shares: Sequence[float]) -> Line:
    """Measures every share on validation and the chosen one on test too; of two alike the more fine-tuned is taken.

    A leaf that did not come with the checkpoint (a new head, what was drawn anew) stays as the run learnt it.
    """
    trained = load_run(run)
    if trained.model_state:
        raise TlxError(
            f"the model of {run} has {listed(trained.model_state)}, which fit its own parameters alone; tlx does not "
            "compute them anew for parameters between two models, and so interpolates no such run."
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
    _, chosen = max((sign * found[monitor], share) for share, found in zip(shares, validation, strict=True))
    metrics = {
        f"{part}/{name}": value
        for part, found in examples.items()
        for name, value in measured(at(chosen), found).items()
    }
    return Line(tuple(shares), validation, f"validation/{monitor}", chosen, at(chosen), metrics)


def starting_point(trained: Trained) -> Any:
    """The checkpoint's parameters that the run began with; None where they were drawn."""
    config = ConfigDict(trained.config)
    folder = resolve(config.model.checkpoint)
    _, params, initialized = load_model(config, folder, dict(trained.model.heads_by_name))
    if config.model.weights != "pretrained":
        raise TlxError("this run began with random weights (config.model.weights); there is nothing to go back to.")
    return unflatten({path: None if path in initialized else leaf for path, leaf in flatten(params).items()})


def parse_shares(text: str) -> tuple[float, ...]:
    """`0:1:0.1` (both ends belong to it), `0.3,0.5` or one number."""
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
