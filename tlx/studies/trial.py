"""Runs one trial that is a config of tlx, in this process. The result is plain values."""

import contextlib
import math
import shutil
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from tlx.errors import TlxError, first_line, no_space
from tlx.recipes.load import Loader
from tlx.recipes.run_directory import revision
from tlx.studies.plan import digest

Result = dict[str, Any]


def run_config(config: ConfigDict, folder: Path, loader: Loader, features: Path, wanted: Sequence[str]) -> Result:
    """Trains and evaluates one config.

    Args:
      config: the resolved config.
      folder: the run directory; a run that was stopped goes on.
      loader: reads data and checkpoints, shared by the worker's trials.
      features: folder of frozen features, shared by all trials.
      wanted: metrics that the run has to measure.

    Returns:
      `metrics`, `seconds`, `peak_memory_bytes`, `trainable_parameters`, `digest` and `revision`; or `error`.
    """
    from tlx.recipes import finetune
    from tlx.recipes.selection import metrics_of_choices

    folder.mkdir(parents=True, exist_ok=True)
    if config.features.cache == "auto":
        config.features.cache, config.features.folder = "disk", str(features)
    reset_peak_memory()
    with failures_told(folder) as failed, (folder / "log.txt").open("a") as log, contextlib.redirect_stdout(log):
        job = finetune.build(config, folder, loader=loader)
        summary = job.run(quiet=sys.stderr.isatty())  # no bar in a worker's terminal; lines in the log
        return measured(
            {
                "metrics": summary["metrics"] | metrics_of_choices(summary.get("target", {})),
                "seconds": summary["seconds"],
                "peak_memory_bytes": peak_memory(),
                "trainable_parameters": summary["parameters"]["trainable"],
                "digest": digest(config.to_dict(), job.facts, revision()),
                "revision": revision(),
            },
            wanted,
        )
    return failed


def measured(result: Result, wanted: Sequence[str]) -> Result:
    """Returns a result, in which all metrics that the study compares have to be finite numbers."""
    metrics = result.get("metrics", {})
    for name in wanted:
        value = metrics.get(name)
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise TlxError(f"the metric {name} is {value}; the run has {', '.join(metrics) or 'none'}.")
    return result


@contextlib.contextmanager
def failures_told(folder: Path) -> Iterator[Result]:
    """An exception of the `with` block becomes the result that it yields: `error`, with a traceback in `folder`.

    Signals pass, and a full disk does, because it would end every other trial too.
    """
    failed: Result = {}
    try:
        yield failed
    except Exception as error:
        if no_space(error):
            raise
        if isinstance(error, TlxError):
            failed["error"] = str(error)
        else:
            failed["error"] = f"{type(error).__name__}: {first_line(error)}"
            (folder / "traceback.txt").write_text(traceback.format_exc(), encoding="utf-8")


def remove_checkpoints(folder: Path) -> None:
    """Removes the checkpoints of a finished run; its predictions, metrics and summary stay."""
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)


def reset_peak_memory() -> None:
    """Lets the system measure this process's peak memory anew, where it can (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> int | None:
    """Returns the peak resident memory since `reset_peak_memory`, in bytes; None where the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)
