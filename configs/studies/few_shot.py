"""A small ViT fine-tuned with few labels by tlx and by torch, and logistic regression on its features.

python experiments/ablate.py --study=configs/studies/few_shot.py:cifar10-20 --workdir=runs/studies/few_shot_cifar10-20

The argument is a data set of $TLX_DATA, `cifar10` or `mnist_m`, and the number of labels of each class; 0: all. The
seed decides the labels that are drawn, the same ones in all arms. Each rate is an arm of its own.
"""

import math
import os

from tlx.studies.study import Study

TORCH = os.environ.get("TLX_INTEROP_PYTHON", ".venv-interop/bin/python")
RATES = ("1e-4", "3e-4", "1e-3")
STEPS, EPOCHS = 100, 6.0  # with few labels; with all


def get_study(arg: str = "cifar10-20") -> Study:
    """The study of one data set and number of labels."""
    name, count = arg.split("-")[0], int(arg.split("-")[1])
    batch = min(32, 10 * count or 32)
    epochs = STEPS / math.ceil(10 * count / batch) if count else EPOCHS
    command = ("{python}", "benchmarks/few_shot/peer.py", "{seed}", "{folder}", "{result}", "{changes}")
    return Study(
        name=f"few_shot_{arg}",
        config="../few_shot.py",
        factors={"software": {"tlx": {}}, "rate": {rate: {"optimizer.learning_rate": float(rate)} for rate in RATES}},
        commands={
            "regression": (*command, "regression"),
            "regression, C = 1": (*command, "C=1"),
            **{f"torch, {rate}": (*command, rate, TORCH) for rate in RATES},
        },
        baseline={"command": "regression"},
        seeds=10 if count else 4,
        seed_fields=("seed", "data.split_seed"),
        metrics={"test/accuracy": "maximize", "validation/accuracy": "maximize"},
        changes={
            "data.train": f"npz:$TLX_DATA/{name}/train.npz", "data.test": f"npz:$TLX_DATA/{name}/dev.npz",
            "data.per_class": count, "params.rules": (), "params.head_multiplier": 10.0, "augment.flip": 0.5,
            "augment.mixup": 1.0, "optimizer.warmup_fraction": 0.1, "train.batch_size": batch, "train.epochs": epochs,
            "train.evaluate_every": epochs,
        },
    )  # fmt: skip
