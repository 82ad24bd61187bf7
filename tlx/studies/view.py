"""Shows how far a study is: a live panel in a terminal, elsewhere a line for each run that has ended."""

import time
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from tlx.studies.records import ENDED, TrialRecord


class View:
    """The view of a study, used as a context manager.

    Args:
      name: name of the study.
      metric: its main metric.
      direction: "maximize" or "minimize".
    """

    def __init__(self, name: str, metric: str, direction: str):
        from rich.console import Console
        from rich.live import Live

        self.name, self.metric, self.sign = name, metric, 1 if direction == "maximize" else -1
        self.console = Console()
        self.live = Live(console=self.console, auto_refresh=False) if self.console.is_terminal else None
        self.started = time.monotonic()
        self.shown: set[tuple[str, int]] = set()
        self.before: int | None = None

    def __enter__(self) -> "View":
        if self.live:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            self.live.stop()

    def show(self, records: Sequence[TrialRecord]) -> None:
        """Shows the present state of all runs."""
        ended = [record for record in records if record.state in ENDED]
        self.before = len(ended) if self.before is None else self.before
        line = self.line(records)
        if self.live:
            from rich.text import Text

            self.live.update(Text(line), refresh=True)
            return
        first = not self.shown
        for record in ended:
            if (record.arm, record.seed) not in self.shown:
                self.shown.add((record.arm, record.seed))
                if not first:
                    value = record.metrics.get(self.metric)  # None for a metric that was added to the study later
                    shown = record.error or ("complete" if value is None else f"{self.metric} {value:.4f}")
                    print(f"{record.arm}, seed {record.seed}: {shown}", flush=True)
        if first:
            self.shown.add(("", -1))
            print(line, flush=True)

    def say(self, sentence: str) -> None:
        """Prints a sentence, above the panel if there is one."""
        if self.live:
            self.live.console.print(sentence, markup=False, highlight=False)
        else:
            print(sentence, flush=True)

    def line(self, records: Sequence[TrialRecord]) -> str:
        """Returns progress, the best run so far, failures and the time left, in words."""
        states = Counter(record.state for record in records)
        ended = states["complete"] + states["failed"]
        parts = [f"{self.name}: {ended} of {len(records)} runs ended, {states['running']} running"]
        if states["failed"]:
            parts.append(f"{states['failed']} failed")
        if complete := [record for record in records if record.state == "complete" and self.metric in record.metrics]:
            best = max(complete, key=lambda record: self.sign * record.metrics[self.metric])
            parts.append(f"best {self.metric} {best.metrics[self.metric]:.4f} ({best.arm}, seed {best.seed})")
        if (done := ended - (self.before or 0)) > 0 and ended < len(records):
            left = (time.monotonic() - self.started) / done * (len(records) - ended)
            parts.append(f"about {_duration(left)} left")
        return "; ".join(parts)


def _duration(seconds: float) -> Any:
    minutes = round(seconds / 60)
    return f"{seconds:.0f} s" if seconds < 90 else f"{minutes} min" if minutes < 90 else f"{minutes / 60:.1f} h"
