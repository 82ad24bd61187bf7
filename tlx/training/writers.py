"""Output of a run during training: `metrics.jsonl`, TensorBoard, and a progress display."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from tlx.errors import listed
from tlx.files.atomic import atomic_write, writable
from tlx.files.regular import read_bytes

METRICS = "metrics.jsonl"


class Writer(Protocol):
    """Writes metrics."""

    def write(self, step: int, values: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


class NoWriter:
    """Writes nothing. Processes other than the main one use it."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


class MetricsWriter:
    """Writes metrics to `metrics.jsonl`, one line for each call, and to TensorBoard.

    Args:
      run: the run directory.
      resumed_at: step at which the run is resumed. Lines and events of later steps are removed.
    """

    def __init__(self, run: Path, resumed_at: int = 0):
        from tensorboardX import SummaryWriter

        self._lines = Lines(run / METRICS, resumed_at)
        with writable(run / "tensorboard"):
            self._board = SummaryWriter(str(run / "tensorboard"), purge_step=resumed_at + 1)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes the metrics of a step.

        Args:
          step: number of finished steps.
          values: metrics by name, such as `train/loss` or `validation/r2`.
        """
        self._lines.write({"step": step, **values})
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Flushes and closes both files."""
        try:
            self._lines.close()
        finally:
            self._board.close()


class Lines:
    """A file of JSON lines with the key `step`.

    Args:
      file: the file.
      resumed_at: step at which the run is resumed. Lines of later steps are removed.
    """

    def __init__(self, file: Path, resumed_at: int):
        self.file = file
        lines, damaged = _parsed(file) if resumed_at else ([], [])
        if damaged:
            many = f"lines {listed(damaged)} of {file} are" if len(damaged) > 1 else f"line {damaged[0]} of {file} is"
            print(f"tlx: {many} damaged and cannot be kept; the other lines are.", file=sys.stderr, flush=True)
        kept = [line for line in lines if line["step"] <= resumed_at]
        with atomic_write(file) as opened:
            opened.writelines(json.dumps(line) + "\n" for line in kept)
        with writable(file):
            self._opened = file.open("a", encoding="utf-8", buffering=1)

    def write(self, line: Mapping[str, Any]) -> None:
        """Writes a line."""
        with writable(self.file):
            self._opened.write(json.dumps(line) + "\n")

    def close(self) -> None:
        """Flushes and closes the file."""
        with writable(self.file):
            self._opened.close()


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """Returns the lines of a run's `metrics.jsonl`."""
    return read_lines(run / METRICS)


def read_lines(file: Path) -> list[dict[str, Any]]:
    """Returns the JSON lines of a file that can be read; [] without a file."""
    return _parsed(file)[0]


def _parsed(file: Path) -> tuple[list[dict[str, Any]], list[int]]:
    """The lines that can be read, and the numbers (from 1) of the others but for a last one that a kill cut off."""
    if not file.is_file():
        return [], []
    lines: list[dict[str, Any]] = []
    damaged = []
    for number, text in enumerate(texts := read_bytes(file).splitlines(keepends=True), 1):
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            line = None
        if isinstance(line, dict) and isinstance(line.get("step"), int):
            lines.append(line)
        elif number < len(texts) or text.endswith(b"\n"):
            damaged.append(number)
    return lines, damaged


class Progress:
    """Displays the progress of a run.

    In a terminal, it is a progress bar with the loss, the validation metric, examples per second and remaining time.
    Otherwise, one line is printed for each evaluation.

    Args:
      title: the run's name.
      total_steps: number of steps of the run.
      start: the step at which the run starts or is resumed.
      quiet: whether to display nothing.
    """

    def __init__(self, title: str, total_steps: int, start: int, quiet: bool = False):
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self.title, self.live = title, sys.stderr.isatty() and not quiet
        self.quiet = quiet
        self._shown: dict[str, Any] = {"loss": "", "metric": "", "rate": ""}
        self._bar = Bar(
            TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(),
            TextColumn("{task.fields[loss]}  {task.fields[metric]}  {task.fields[rate]}"), TimeRemainingColumn(),
            console=Console(stderr=True), disable=not self.live,
        )  # fmt: skip
        self._task = self._bar.add_task(title, total=total_steps, completed=start, **self._shown)
        self._bar.start()
        if start and not self.live and not quiet:
            print(f"{title}: goes on after step {start} of {total_steps}", flush=True)

    def step(self, step: int, loss: float | None = None, rate: float | None = None) -> None:
        """Displays a step.

        Args:
          step: number of finished steps.
          loss: training loss; None: the previous value stays.
          rate: examples per second; None: the previous value stays.
        """
        if loss is not None:
            self._shown |= {"loss": f"loss {loss:.4f}"}
        if rate is not None:
            self._shown |= {"rate": f"{rate:,.0f} examples/s"}
        self._bar.update(self._task, completed=step, **self._shown)

    def evaluated(self, step: int, epoch: float, name: str, value: float, best: bool) -> None:
        """Displays the monitored metric after an evaluation.

        Args:
          step: number of finished steps.
          epoch: number of finished epochs.
          name: name of the metric.
          value: its value.
          best: whether it is the best value of the run.
        """
        self._shown["metric"] = f"{name} {value:.4f}"
        self._bar.update(self._task, completed=step, **self._shown)
        if not self.live and not self.quiet:
            shown = "  ".join(text for text in self._shown.values() if text)
            print(f"{self.title}: epoch {epoch:.4g}, step {step}  {shown}{'  (best)' if best else ''}", flush=True)

    def close(self) -> None:
        """Stops the display; the last values stay on the screen."""
        self._bar.stop()
