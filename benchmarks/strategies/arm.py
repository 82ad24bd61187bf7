"""One run of the study: a set, a strategy, a seed, in a process of its own, so that its peak memory is its own.

python arm.py SET STRATEGY SEED FOLDER
"""

import json
import resource
import shutil
import statistics
import sys
from pathlib import Path

from strategies import SETS, STRATEGIES

from tlx.cli.launch import launched
from tlx.data import plan
from tlx.recipes import defaults, finetune
from tlx.training.writers import read_metrics


def main(name: str, strategy: str, seed: int, folder: Path) -> None:
    """Trains, and writes `found.json`."""
    plan.LENGTH_BUCKETS = (32, 64)  # of two lengths a run of 39 steps compiles no longer than it trains
    config = defaults.finetune()
    config.update_from_flattened_dict({**SETS[name].fields, **STRATEGIES[strategy], "seed": seed})
    config.data.split_seed = seed  # of the labels drawn, and of the cut
    config.parallel.data = 1
    job = finetune.build(config, folder / "run")
    summary = job.run(quiet=True)
    rates = [line["train/examples_per_s"] for line in read_metrics(folder / "run") if "train/examples_per_s" in line]
    examples = summary["examples"]["train"]
    found = {
        "metric": summary["metrics"][f"test/{SETS[name].metric}"],
        "trainable": summary["parameters"]["trainable"],
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "epoch_seconds": examples / statistics.median(rates[1:] or rates),
        "seconds": summary["seconds"],
        "examples": summary["examples"],
    }
    (folder / "found.json").write_text(json.dumps(found), encoding="utf-8")
    shutil.rmtree(folder / "run" / "checkpoints")


if __name__ == "__main__":
    with launched():
        main(sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))
