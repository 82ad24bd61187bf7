"""The option --step of the commands that read a run, and the line that says which step was read."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def add_step(parser: argparse.ArgumentParser) -> None:
    """Adds --step."""
    parser.add_argument("--step", type=int, metavar="N", help="the step whose checkpoint is used; default: the best")


def load(run: str, step: int | None, best: Mapping[str, Any] | None = None) -> Any:
    """Loads a run (see `tlx.recipes.trained.load_run`) and says on standard error which step is used.

    Args:
      run: the run directory.
      step: the step of --step; None without it.
      best: `step` and `by`, the metric, of the best checkpoint of one task, which is then used in place of the run's.
    """
    from tlx.recipes.trained import load_run

    trained = load_run(Path(run), best["step"] if step is None and best else step)
    say(run, trained.step, step, best["by"] if best else None)
    return trained


def say(run: str, used: int, asked: int | None, by: str | None = None) -> None:
    """Says on standard error which step of a run is used.

    Args:
      run: the run directory.
      used: the step.
      asked: the step of --step; None without it.
      by: the metric by which it is the best; None: that of the run.
    """
    role = "as --step says" if asked is not None else "its best" if by is None else f"its best by {by}"
    print(f"tlx: {run}: step {used}, {role}", file=sys.stderr, flush=True)
