"""Eight choices of what is trained, each with its learning rate tuned on validation, on one data set of $TLX_DATA.

python experiments/ablate.py --study=configs/studies/strategies.py:sst2 --workdir=runs/studies/strategies_sst2

The sets are `sst2` and `mrpc` with MiniLM (200 examples of each class), and `mnist_m` with a small ViT (50 of each).
With `--workers=2` each of two workers has half of the cores.
"""

from tlx.studies.study import Study, Tuning

STRATEGIES = {
    "full": {},
    "last 2 blocks": {"params.trainable": "last:2"},
    "head": {"params.trainable": "heads"},
    "biases": {"params.trainable": "biases"},
    "LoRA, rank 8": {"lora.rank": 8},
    "layer decay 0.75": {"params.layer_decay": 0.75},
    "gradual unfreezing": {"params.unfreeze": "gradual:0.25"},
    "probe, then full": {"params.unfreeze": "lp_ft:1", "params.head_multiplier": 10.0},
}
TEXTS = {
    "data.per_class": 200, "data.max_length": 64, "data.validation_fraction": 0.05, "head.pooling": "mean",
    "train.batch_size": 32, "train.epochs": 3.0, "train.evaluate_every": 3.0,
}  # fmt: skip
SETS = {
    "sst2": ("../text_file.py:sst2", TEXTS),
    "mrpc": ("../glue_mrpc.py:minilm", TEXTS),
    "mnist_m": (
        "../vit_cifar10.py:mini",
        {
            "data.train": "npz:$TLX_DATA/mnist_m/train.npz", "data.test": "npz:$TLX_DATA/mnist_m/dev.npz",
            "data.per_class": 50, "optimizer.warmup_steps": 15, "train.batch_size": 32, "train.epochs": 9.0,
            "train.evaluate_every": 9.0,
        },
    ),
}  # fmt: skip


def get_study(name: str = "sst2") -> Study:
    """The study of one data set."""
    config, changes = SETS[name]
    return Study(
        name=f"strategies_{name}",
        config=config,
        factors={"strategy": STRATEGIES},
        seeds=5,
        seed_fields=("seed", "data.split_seed"),
        metrics={"test/accuracy": "maximize", "validation/accuracy": "maximize"},
        changes=changes,
        tuning=Tuning(space={"optimizer.learning_rate": (3e-5, 3e-2, "log")}, trials=6),
    )
