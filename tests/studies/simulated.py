"""Studies that were never trained: records, and run directories with learning curves, drawn from known means."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np

from tlx.studies.records import StudyFacts, TrialRecord

FREEZING = {"all": 0.0, "heads only": -0.06, "biases": -0.03}
RATES = {"1e-3": -0.04, "1e-4": 0.0, "1e-5": -0.02}
SIZES = {"500": -0.03, "4000": 0.0}


def facts(**changed: Any) -> StudyFacts:
    values = {
        "name": "freezing",
        "base": "configs/text_file.py",
        "baseline": "all, 1e-4, 4000",
        "metrics": {"test/accuracy": "maximize", "test/loss": "minimize"},
        "selection": "checkpoint and learning rate by validation/accuracy",
        "sizes": {"train": 4000, "epochs": 3},
        "versions": {"python": "3.11.7", "tlx": "0.1.0", "jax": "0.10.2"},
        "revision": "6bcbab1d2f1a",
        "dirty": False,
        **changed,
    }
    return StudyFacts(**values)


def trial(arm: str, seed: int, **changed: Any) -> TrialRecord:
    values = {
        "study": "freezing", "arm": arm, "factors": {}, "seed": seed, "state": "complete", "metrics": {},
        "seconds": 10.0, "peak_memory_bytes": 2**30, "trainable_parameters": 1000, "error": None, "workdir": None,
        "changes": {}, "digest": f"{arm}-{seed}", "budget": {"epochs": 3}, **changed,
    }  # fmt: skip
    return TrialRecord(**values)


def grid(seeds: int = 5, folder: Path | None = None) -> list[TrialRecord]:
    """A full grid of freezing, learning rate and size, with run directories in `folder` if it is given."""
    random = np.random.default_rng(0)
    by_seed = 0.01 * random.standard_normal(seeds)
    found = []
    for (freezing, a), (rate, b), (size, c) in itertools.product(FREEZING.items(), RATES.items(), SIZES.items()):
        arm = f"{freezing}, {rate}, {size}"
        for seed in range(seeds):
            accuracy = 0.86 + a + b + c + by_seed[seed] + 0.008 * random.standard_normal()
            found.append(trial(
                arm, seed, factors={"freezing": freezing, "rate": rate, "size": size},
                changes={"params.freeze": freezing, "optimizer.learning_rate": float(rate), "data.train": size},
                seconds=float(size) / 100 * (1 if freezing == "all" else 0.4) + random.random(),
                trainable_parameters={"all": 22_713_600, "heads only": 770, "biases": 33_408}[freezing],
                peak_memory_bytes=int(2**30 * (1.2 if freezing == "all" else 0.7)),
                metrics={
                    "test/accuracy": accuracy, "validation/accuracy": accuracy + 0.01 * random.standard_normal(),
                    "test/loss": 1.2 - accuracy, "validation/loss": 1.2 - accuracy,
                },
                workdir=None if folder is None else str(_run(folder / f"{arm}-{seed}", accuracy, seed)),
            ))  # fmt: skip
    return found


def _run(folder: Path, accuracy: float, seed: int, evaluations: int = 12) -> Path:
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    lines = []
    for step in range(1, evaluations + 1):
        reached = accuracy - 0.3 * np.exp(-step / 3) + 0.004 * random.standard_normal()
        lines.append({"step": 50 * step, "train/loss": float(np.exp(-step / 5))})
        lines.append({"step": 50 * step, "validation/accuracy": reached, "validation/loss": 1 - reached})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder
