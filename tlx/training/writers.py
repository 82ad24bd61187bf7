"""What a run writes while it trains: `metrics.jsonl`, TensorBoard, and a live display."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from tlx.files.regular import read_bytes
from tlx.files.whole import whole, writable


class Writer(Protocol):
    """Where metrics go."""

    def write(self, step: int, values: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


class NoWriter:
    """Of a process that is not the main one: metrics go nowhere."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class MetricsWriter:
    """One line of `metrics.jsonl` and one TensorBoard event per call.

    Args:
      run: the run directory.
      resumed_at: lines and events of later steps, written before a stop, are dropped.
    """

    def __init__(self, run: Path, resumed_at: int = 0):
        from tensorboardX import SummaryWriter

        self.file = run / "metrics.jsonl"
        kept = [line for line in read_metrics(run) if line["step"] <= resumed_at] if resumed_at else []
        with whole(self.file) as opened:
            opened.writelines(json.dumps(line) + "\n" for line in kept)
        with writable(self.file):
            self._lines = self.file.open("a", encoding="utf-8", buffering=1)
        self._board = SummaryWriter(str(run / "tensorboard"), purge_step=resumed_at + 1)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """values: by name such as `train/loss`, `validation/r2`."""
        with writable(self.file):
            self._lines.write(json.dumps({"step": step, **values}) + "\n")
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Flushes both."""
        try:
            with writable(self.file):
                self._lines.close()
        finally:
            self._board.close()


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's `metrics.jsonl`; a last line cut off by a kill is dropped."""
    file = run / "metrics.jsonl"
    if not file.is_file():
        return []
    lines = []
    for text in read_bytes(file).splitlines():
        try:
            lines.append(json.loads(text))
        except (ValueError, RecursionError):
            break
    return lines


class Progress:
    """A live line: step, loss, metric, examples/s, time left. Where there is no terminal, a line per evaluation."""

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
        """rate: examples per second."""
        if loss is not None:
            self._shown |= {"loss": f"loss {loss:.4f}"}
        if rate is not None:
            self._shown |= {"rate": f"{rate:,.0f} examples/s"}
        self._bar.update(self._task, completed=step, **self._shown)

    def evaluated(self, step: int, epoch: float, name: str, value: float, best: bool) -> None:
        """The validation metric that is watched."""
        self._shown["metric"] = f"{name} {value:.4f}"
        self._bar.update(self._task, completed=step, **self._shown)
        if not self.live and not self.quiet:
            shown = "  ".join(text for text in self._shown.values() if text)
            print(f"{self.title}: epoch {epoch:.4g}, step {step}  {shown}{'  (best)' if best else ''}", flush=True)

    def close(self) -> None:
        """Leaves the last state on the screen."""
        self._bar.stop()
