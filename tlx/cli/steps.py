"""The option --step of the commands that read a run, and the line that says which step was read."""

import argparse
import sys
from pathlib import Path
from typing import Any


def add_step(parser: argparse.ArgumentParser) -> None:
    """Adds --step."""
    parser.add_argument("--step", type=int, metavar="N", help="the step whose checkpoint is used; default: the best")


def load(run: str, step: int | None) -> Any:
    """Loads a run (see `tlx.recipes.run_directory.load_run`) and says on standard error which step is used."""
    from tlx.recipes.run_directory import load_run

    trained = load_run(Path(run), step)
    say(run, trained.step, step)
    return trained


def say(run: str, used: int, asked: int | None) -> None:
    """Says on standard error which step of a run is used.

    Args:
      run: the run directory.
      used: the step.
      asked: the step of --step; None without it.
    """
    role = "its best" if asked is None else "as --step says"
    print(f"tlx: {run}: step {used}, {role}", file=sys.stderr, flush=True)
