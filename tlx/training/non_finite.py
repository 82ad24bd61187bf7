"""Stops a run in which too many steps in a row have a loss or a gradient that is not finite.

The training step skips such an update by itself (`tlx.training.step`). The functions here run where the loop logs, so
that a healthy run waits for the device no more often than it would without them.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from tlx.errors import TlxError, first_line, listed
from tlx.files.atomic import atomic_write
from tlx.parallel.layout import Layout
from tlx.training.checkpoint import Checkpoints
from tlx.training.phases import Phase, phase_of
from tlx.training.state import State

SHOWN = 10  # entries of each list of the report


@dataclasses.dataclass(frozen=True)
class SkipLimit:
    """Stops a run after too many skipped steps in a row, with a report.

    Attributes:
      most: number of steps in a row that may be skipped, as `max_skipped` of `make_train_step`.
      file: the JSON file of the report.
    """

    most: int
    file: Path

    def check(
        self, step: int, state: State, phases: Sequence[Phase], batches: Callable[[int], Iterator[Any]],
        checkpoints: Checkpoints, layout: Layout,
    ) -> None:  # fmt: skip
        """Raises `TlxError` if more than `most` steps up to this one were skipped in a row.

        Args:
          step: number of finished steps.
          state: the state after them. It is the state before the first of the skipped steps, but for the step.
          phases: the phases of the run.
          batches: a function from a step to the run's batches from that step on.
          checkpoints: the run's checkpoints.
          layout: the placement of arrays on the devices.
        """
        in_a_row = int(state.skipped_in_a_row)
        if in_a_row <= self.most:
            return
        last = step - (in_a_row - self.most - 1)  # the step after which the training step applies no update
        phase = phases[phase_of(phases, last)]
        batch = next((phase.batches or batches)(last - 1))
        state = dataclasses.replace(state, step=jax.device_put(np.int32(last - 1), state.step.sharding))
        checkpoints.wait()
        newest = checkpoints.newest()
        report = {
            "step": last, "skipped_steps": [last - self.most, last], "max_skipped": self.most,
            "newest_checkpoint": newest, "examples": _examples(layout, batch), **_diagnosed(phase, state, batch),
        }  # fmt: skip
        if layout.is_main:
            with atomic_write(self.file) as opened:
                opened.write(json.dumps(_plain(report), indent=1) + "\n")
        many = f"steps {last - self.most} to {last}" if self.most else f"step {last}"
        saved = "no checkpoint was saved yet" if newest is None else f"the newest checkpoint is that of step {newest}"
        raise TlxError(
            f"the loss or the gradient of {many} is not finite, which is more in a row than config.train.max_skipped "
            f"({self.most}) allows; {saved}, and {self.file} names the examples of step {last} and where its "
            f"activations and gradients stop being finite{_first(report)}; look at these examples, or begin a new "
            "workdir with a lower learning rate or a smaller config.optimizer.clip."
        )


def _examples(layout: Layout, batch: Mapping[str, Mapping[str, Any]]) -> dict[str, list[int]]:
    """The ids of the batch's examples by stream, without padding."""
    found = {}
    for stream, fields in batch.items():
        if "example_id" in fields:
            rows = layout.gather({name: fields[name] for name in ("example_id", "valid") if name in fields})
            ids = np.asarray(rows["example_id"])
            found[stream] = ids[np.asarray(rows.get("valid", np.ones(len(ids))), bool)].tolist()
    return found


def _diagnosed(phase: Phase, state: State, batch: Any) -> dict[str, Any]:
    """What the phase's diagnosis finds. If it fails itself, the reason: the report must not be lost for that."""
    if phase.diagnose is None:
        return {}
    try:
        found = jax.device_get(phase.diagnose(state, batch))
    except Exception as error:
        return {"diagnosis": f"failed: {type(error).__name__}: {first_line(error)}"}
    updates = {
        name: {
            **update, "activations": _selected(update["activations"], ordered=True),
            "gradients": _selected(update["gradients"]),
        }
        for name, update in found["updates"].items()
    }  # fmt: skip
    return {"batch": _selected(found["batch"]), "parameters": _selected(found["parameters"]), "updates": updates}


def _selected(sizes: Mapping[str, Any], ordered: bool = False) -> dict[str, Any]:
    """The first entries that are not finite, and the largest. Keys of `ordered` sizes begin with their index."""
    rows = [{"path": name.partition(" ")[2] if ordered else name, **size} for name, size in sorted(sizes.items())]
    bad = [row for row in rows if row["not_finite"]]
    largest = sorted(rows, key=lambda row: -row["largest"])[:SHOWN]
    return {"arrays": len(rows), "arrays_not_finite": len(bad), "not_finite": bad[:SHOWN], "largest": largest}


def _first(report: Mapping[str, Any]) -> str:
    """A clause with the first place that is not finite."""
    for part in ("batch", "parameters"):
        if bad := report.get(part, {}).get("not_finite"):
            return f" (already in the {part}: {listed([row['path'] for row in bad], 3)})"
    for update in report.get("updates", {}).values():
        for part in ("activations", "gradients"):
            if bad := update[part]["not_finite"]:
                return f" (first in the {part} of {bad[0]['path']})"
    return ""


def _plain(value: Any) -> Any:
    """The value as JSON; numbers that are not finite are the strings "nan", "inf" and "-inf"."""
    if isinstance(value, Mapping):
        return {str(name): _plain(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, np.ndarray | np.generic):
        value = value.item()
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
