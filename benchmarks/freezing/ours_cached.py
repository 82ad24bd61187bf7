"""A head alone, by tlx: python ours_cached.py CHECKPOINT CSV EPOCHS WORKDIR."""

import json
import resource
import shutil
import statistics
import sys
import time
from pathlib import Path

import numpy as np

from tlx.cli.launch import launched
from tlx.recipes import defaults, finetune
from tlx.training.writers import read_metrics


def main(checkpoint: str, texts: str, epochs: float, workdir: Path) -> None:
    """Trains; prints seconds, peak memory, and where the rows it trained on are kept."""
    config = defaults.finetune()
    config.update_from_flattened_dict({
        "model.checkpoint": checkpoint, "head.pooling": "mean", "params.train": "heads", "data.train": f"csv:{texts}",
        "optimizer.learning_rate": 1e-2, "train.batch_size": 32, "train.epochs": epochs, "train.evaluate_every": 1.0,
        "parallel.data": 1,
    })  # fmt: skip
    shutil.rmtree(workdir / "run", ignore_errors=True)
    started = time.perf_counter()
    job = finetune.build(config, workdir / "run")
    built = time.perf_counter()
    job.run(quiet=True)
    ended = time.perf_counter()
    train = job.tasks["default"].splits["train"]
    rates = [line["train/examples_per_s"] for line in read_metrics(workdir / "run") if "train/examples_per_s" in line]
    np.save(workdir / "rows.npy", train.example_id)
    print(
        json.dumps(
            {
                "build": built - started,
                "total": ended - started,
                "epoch": len(train) / statistics.median(rates[1:]),
                "examples": len(train),
                "rows": str(workdir / "rows.npy"),
                "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            }
        )
    )


if __name__ == "__main__":
    with launched():
        main(sys.argv[1], sys.argv[2], float(sys.argv[3]), Path(sys.argv[4]))
