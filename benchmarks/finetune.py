"""One run of tlx in its own process, so that its peak memory can be measured: python finetune.py FOLDER.

The config is FOLDER/fields.json, `{field of the config: value}`, optionally with `length_buckets`, the lengths to which
texts are padded. Results are written into FOLDER: `found.json`, `answers.npz` (predictions for the test split; for
tagging with the number of words of each sentence) and `rows.npy`, the rows of the source in the training split.
"""

import json
import shutil
import statistics
import sys
import time
from pathlib import Path

import numpy as np
from process import peak

from tlx.cli.launch import launched
from tlx.data import plan
from tlx.recipes import defaults, finetune
from tlx.training.writers import read_metrics


def main(folder: Path) -> None:
    """Trains, writes the results, and removes the checkpoints."""
    fields = json.loads((folder / "fields.json").read_text(encoding="utf-8"))
    plan.LENGTH_BUCKETS = tuple(fields.pop("length_buckets", plan.LENGTH_BUCKETS))
    config = defaults.finetune()
    config.update_from_flattened_dict(fields)
    started = time.perf_counter()
    job = finetune.build(config, folder / "run")
    built = time.perf_counter()
    summary = job.run(quiet=True)
    ended = time.perf_counter()
    examples = job.tasks["default"].splits
    rates = [line["train/examples_per_s"] for line in read_metrics(folder / "run") if "train/examples_per_s" in line]
    found = {
        **{name: summary[name] for name in ("metrics", "parameters", "examples", "seconds")},
        "build_seconds": built - started,
        "total_seconds": ended - started,
        "epoch_seconds": len(examples["train"]) / statistics.median(rates[1:] or rates),
        "peak": peak(),
        "steps": job.schedule.total,
        "labels": job.tasks["default"].head.labels,
        "versions": {"tlx": summary["revision"] or summary["versions"]["tlx"], "jax": summary["versions"]["jax"]},
    }
    np.save(folder / "rows.npy", examples["train"].example_id)
    if "test" in examples:
        with np.load(folder / "run" / "predictions" / "test.npz") as saved:
            words = {"words": np.diff(saved["word_offsets"])} if "word_offsets" in saved else {}
            np.savez(folder / "answers.npz", predictions=saved["predictions"], **words)
    shutil.rmtree(folder / "run" / "checkpoints")
    (folder / "found.json").write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    with launched():
        main(Path(sys.argv[1]))
