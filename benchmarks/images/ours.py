"""Reads a data set with tlx: one epoch as warm-up, one timed epoch.

python ours.py WORKDIR jpeg|arrays THREADS CACHE_BYTES
"""

import json
import sys
import time
from pathlib import Path

import numpy as np

from tlx.data.batches import Batches
from tlx.data.image_examples import ImageExamples
from tlx.data.plan import EvaluationPlan
from tlx.data.sources import load
from tlx.pretrained.image_processor import ImageProcessor


def main(workdir: Path, name: str, threads: int, cache_bytes: int) -> None:
    """Prints the rate and the mean as JSON."""
    processor = ImageProcessor(workdir)
    images = load(f"folder:{workdir / name}").column("image") if name == "jpeg" else np.load(workdir / "arrays.npy")
    examples = ImageExamples(images, processor, threads=threads, cache_bytes=cache_bytes)
    plan = EvaluationPlan(examples.lengths, 32)
    batches = Batches(examples, plan, plan.steps_per_epoch)
    for _ in range(2):
        started, total = time.perf_counter(), 0.0
        for step in range(len(batches)):
            batch = batches[step]
            values = batch["pixel_values"].astype(np.float32) * processor.scale + processor.offset
            total += float(values[batch["valid"]].mean(dtype=np.float64)) * int(batch["valid"].sum())
        seconds = time.perf_counter() - started
    print(json.dumps({"rate": len(examples) / seconds, "mean": total / len(examples)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
