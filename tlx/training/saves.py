"""When a run saves checkpoints, and what each save costs (`saves.jsonl` in the run directory)."""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from tlx.training.checkpoint import Checkpoints
from tlx.training.state import State
from tlx.training.writers import Lines, read_lines

FILE = "saves.jsonl"


@dataclasses.dataclass(frozen=True)
class SaveSchedule:
    """When checkpoints are saved. The end of the run and the best evaluation are always saved.

    Attributes:
      steps: number of steps between checkpoints; None: see `seconds`.
      seconds: time between checkpoints in seconds. If `steps` is None too, each evaluation saves a checkpoint.
      keep: how many of the newest checkpoints are kept, in addition to the best.
    """

    steps: int | None = None
    seconds: float | None = None
    keep: int = 1

    def due(self, step: int, evaluated: bool, best: bool) -> bool:
        """Returns whether a step is saved, apart from what the clock and the end of the run ask for.

        Args:
          step: number of finished steps.
          evaluated: whether the state has just been evaluated.
          best: whether it was the best evaluation of the run.
        """
        if self.steps is None and self.seconds is None:
            return evaluated
        return (evaluated and best) or (self.steps is not None and step % self.steps == 0)


class Saves:
    """Saves checkpoints in the background and writes a line of `saves.jsonl` for each that is complete.

    A line has the `step`, the `bytes` of the state's arrays, `blocked_seconds` (how long training waited) and `seconds`
    (until the checkpoint was complete, noticed after the next step). Lines describe what happened, so those of a run
    that was stopped differ from those of a run that was not.

    Args:
      checkpoints: where states are saved.
      seconds: time between checkpoints in seconds; None: `overdue` is always False.
      resumed_at: step at which the run is resumed.
      writes: whether this process writes the file.
    """

    def __init__(self, checkpoints: Checkpoints, seconds: float | None, resumed_at: int, writes: bool):
        self._checkpoints, self._seconds = checkpoints, seconds
        self._lines = Lines(checkpoints.directory.parent / FILE, resumed_at) if writes else None
        self._began = time.perf_counter()  # when the last save began
        self._unfinished: dict[str, Any] = {}

    @property
    def overdue(self) -> bool:
        """Whether the time between checkpoints is over, and the last one is complete."""
        over = self._seconds is not None and time.perf_counter() - self._began >= self._seconds
        return over and not self._checkpoints.saving

    def save(self, state: State, meta: dict[str, Any]) -> None:
        """Starts to save a state; see `Checkpoints.save`."""
        began = time.perf_counter()
        self.wait()  # one is written at a time
        self._began = began
        self._checkpoints.save(state, meta)
        blocked = time.perf_counter() - began
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
        self._unfinished = {"step": int(state.step), "bytes": size, "blocked_seconds": round(blocked, 4)}

    def poll(self) -> None:
        """Writes the line of the last save if it is complete."""
        if self._unfinished and not self._checkpoints.saving:
            self._note()

    def wait(self) -> None:
        """Waits until the last checkpoint is complete, and writes its line."""
        self._checkpoints.wait()
        self._note()

    def close(self) -> None:
        """Closes the file."""
        if self._lines is not None:
            self._lines.close()

    def _note(self) -> None:
        if self._unfinished and self._lines is not None:
            self._lines.write({**self._unfinished, "seconds": round(time.perf_counter() - self._began, 4)})
        self._unfinished = {}


def cost(run: Path) -> dict[str, float]:
    """Returns the totals of a run's `saves.jsonl`, for the summary."""
    lines: Sequence[dict[str, Any]] = read_lines(run / FILE)
    totals = {name: sum(line[name] for line in lines) for name in ("bytes", "blocked_seconds", "seconds")}
    return {"checkpoints": len(lines), **{name: round(value, 3) for name, value in totals.items()}}
