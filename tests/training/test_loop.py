"""What the loop remembers, and what the writers keep."""

import math
from pathlib import Path

from tlx.training.loop import Progressed
from tlx.training.writers import MetricsWriter, read_metrics


def test_best_and_stale() -> None:
    so_far = Progressed()
    for step, value in enumerate([0.5, 0.7, 0.7, math.nan, 0.6], 1):
        so_far = so_far.after(step, value, "max")
    assert so_far.best == {"step": 2, "value": 0.7} and so_far.stale == 3
    assert so_far.after(9, 0.71, "max").stale == 0
    assert Progressed(best={"step": 1, "value": 3.0}).after(2, 2.5, "min").best == {"step": 2, "value": 2.5}


def test_a_resumed_run_drops_the_lines_it_will_write_again(tmp_path: Path) -> None:
    writer = MetricsWriter(tmp_path)
    for step in range(1, 6):
        writer.write(step, {"train/loss": float(step)})
    writer.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "train/l')  # as a kill leaves it
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2, 3, 4, 5]
    writer = MetricsWriter(tmp_path, resumed_at=3)
    writer.write(4, {"train/loss": 40.0})
    writer.close()
    assert [(line["step"], line["train/loss"]) for line in read_metrics(tmp_path)] == [
        (1, 1.0),
        (2, 2.0),
        (3, 3.0),
        (4, 40.0),
    ]
