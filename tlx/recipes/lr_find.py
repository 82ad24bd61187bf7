"""Which learning rate a config might take: a range test on a copy of it, of which nothing is kept but the curve."""

import csv
import dataclasses
import tempfile
from pathlib import Path

from ml_collections import ConfigDict

from tlx.files.whole import whole
from tlx.optim.range_test import RangeTest, Watch, sweep
from tlx.recipes.finetune import build
from tlx.reporting.range_test import plot_range_test
from tlx.training.checkpoint import Checkpoints


def lr_find(config: ConfigDict, lowest: float = 1e-7, highest: float = 10.0, steps: int = 100) -> RangeTest:
    """Trains for up to so many steps with a rate that grows from step to step, as the config says but for the schedule.

    Batches, dropout and what is drawn are those of the run's first steps. The run directory that is laid out for it is
    gone afterwards.
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


def write(found: RangeTest, folder: Path) -> tuple[Path, Path]:
    """`lr_find.png` and `lr_find.csv` (rate, loss, smoothed) into a folder."""
    picture = plot_range_test(found.rates, found.losses, found.smoothed, found.steepest, folder / "lr_find.png")
    table = folder / "lr_find.csv"
    with whole(table) as file:
        rows = csv.writer(file)
        rows.writerow(("learning_rate", "loss", "smoothed"))
        rows.writerows(zip(found.rates.tolist(), found.losses.tolist(), found.smoothed.tolist(), strict=True))
    return picture, table
