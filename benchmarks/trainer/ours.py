"""One run of tlx: trains on a job's rows, answers its test rows.

python ours.py job.json
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from tlx.cli.launch import launched
from tlx.recipes import defaults, finetune


def configure(job: dict[str, Any]) -> ConfigDict:
    """The recipe in tlx's words; what it does not name stays tlx's default."""
    recipe, config = job["recipe"], defaults.finetune()
    config.seed = job["seed"]
    config.model.checkpoint = job["checkpoint"]
    for part in ("train", "validation", "test"):
        config.data[part] = job["files"][part]
    config.data.text, config.data.label = ("tokens", "tags") if job["kind"] == "tagging" else ("text", "label")
    if job["pair"]:
        config.data.pair = "pair"
    config.data.max_length = recipe["max_length"]
    config.head.kind = job["kind"]
    if job["kind"] == "regression":
        config.head.standardise = False  # the Trainer does not, and an easier target would be no fair advantage
    config.params.groups.default.weight_decay = recipe["weight_decay"]
    for name in ("learning_rate", "b1", "b2", "eps", "clip"):
        config.optimizer[name] = recipe[name]
    config.optimizer.schedule, config.optimizer.warmup_fraction = "linear", 0.0
    for name in ("epochs", "batch_size", "eval_batch_size"):
        config.train[name] = recipe[name]
    config.train.evaluate_every = 2 * recipe["epochs"]  # at the end only: the last parameters are the ones scored
    config.parallel.data = 1
    return config


def main(file: str) -> None:
    """Writes `answers.npz` (answers; words of each sentence, of tagging) and `found.json` into the job's folder."""
    job = json.loads(Path(file).read_text(encoding="utf-8"))
    out = Path(job["out"])
    built = finetune.build(configure(job), out / "run")
    summary = built.run(quiet=True)
    assert built.schedule.evaluate_every > built.schedule.total
    with np.load(out / "run" / "predictions" / "test.npz") as saved:
        predictions = saved["predictions"]
    more = {"words": np.diff(built.tasks["default"].splits["test"].words.offsets)} if job["kind"] == "tagging" else {}
    np.savez(out / "answers.npz", predictions=predictions, **more)
    found = {
        "labels": built.tasks["default"].head.labels,
        "seconds": summary["seconds"],
        "steps": built.schedule.total,
        "versions": {"tlx": summary["revision"] or summary["versions"]["tlx"], "jax": summary["versions"]["jax"]},
    }
    (out / "found.json").write_text(json.dumps(found), encoding="utf-8")
    shutil.rmtree(out / "run" / "checkpoints")  # a quarter of a gigabyte


if __name__ == "__main__":
    with launched():
        main(sys.argv[1])
