"""Learning rate range test: trains a config with a growing learning rate and records the loss."""

import csv
import dataclasses
import tempfile
from pathlib import Path

from ml_collections import ConfigDict

from tlx.files.atomic import atomic_write
from tlx.optim.range_test import RangeTest, Watch, sweep
from tlx.recipes.finetune import build
from tlx.reporting.range_test import plot_range_test
from tlx.training.checkpoint import Checkpoints


def lr_find(config: ConfigDict, lowest: float = 1e-7, highest: float = 10.0, steps: int = 100) -> RangeTest:
    """Trains a config for a few steps with a learning rate that grows in each step.

    Everything but the schedule is as in the config. Batches, dropout and initial parameters are those of the first
    steps of a run. The run directory is temporary and is deleted.

    Args:
      config: a fine-tuning config.
      lowest: the first learning rate.
      highest: the last learning rate.
      steps: largest number of steps; the test ends earlier if the loss diverges.

    Returns:
      Learning rates, losses and two suggested learning rates.
    """
    rate = sweep(lowest, highest, steps)
    watch = Watch(rate, steps)
    with tempfile.TemporaryDirectory(prefix="tlx-lr-find-") as folder:
        job = build(config, Path(folder) / "run", rate)
        schedule = dataclasses.replace(job.schedule, total=steps, evaluate_every=steps, log_every=steps)
        job = dataclasses.replace(job, phases=job.phases[:1], schedule=schedule)
        with Checkpoints(job.run_directory / "checkpoints") as checkpoints:
            job.fit(checkpoints, quiet=True, after_step=watch)
    return watch.found()


def write(result: RangeTest, folder: Path) -> tuple[Path, Path]:
    """Writes `lr_find.png` and `lr_find.csv` (rate, loss, smoothed loss) into a folder and returns their paths."""
    picture = plot_range_test(result.rates, result.losses, result.smoothed, result.steepest, folder / "lr_find.png")
    table = folder / "lr_find.csv"
    with atomic_write(table) as file:
        rows = csv.writer(file)
        rows.writerow(("learning_rate", "loss", "smoothed"))
        rows.writerows(zip(result.rates.tolist(), result.losses.tolist(), result.smoothed.tolist(), strict=True))
    return picture, table
