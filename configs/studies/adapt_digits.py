"""Methods of domain adaptation on digits of $TLX_DATA, with the network and the recipe of skada-bench.

python experiments/ablate.py --study=configs/studies/adapt_digits.py:mnist-usps --workdir=runs/studies/adapt_mnist-usps

The argument is SOURCE-TARGET of `mnist`, `usps`, `mnist_m`; each pair is a study of its own. The recipe is SGD at 0.1
for 10 epochs of the source, for DANN a tenth of the rate and a momentum of 0.9. DANN also has its gradient clipped,
because without it the loss did not stay finite. Methods have their papers' settings, except for DAN, whose trade-off
grows from 0, and nothing is tuned; skada-bench chooses trade-offs on a grid.

The short form has 100 source images of each class, 1,000 target images and batches of 64. With `--full` all images of
$TLX_DATA are used, in batches of 256.
"""

from tlx.studies.study import Study

METHODS = {
    "source only": {"method.name": "source_only"},
    "DAN": {"method.name": "dan", "method.warm_start": 10.0},
    "Deep CORAL": {"method.name": "deep_coral"},
    "DANN": {
        "method.name": "dann", "method.discriminator": (100,), "optimizer.learning_rate": 0.01,
        "optimizer.momentum": 0.9, "optimizer.clip": 1.0,
    },
    "DeepJDOT": {"method.name": "deepjdot"},
    "MCC": {"method.name": "mcc"},
    "target trained": {"method.name": "target_trained"},
}  # fmt: skip


def get_study(pair: str = "mnist-usps") -> Study:
    """The study of one pair of domains."""
    return Study(
        name=f"adapt_{pair}",
        config=f"../adapt_digits.py:{pair}",
        factors={"method": METHODS},
        seeds=3,
        seed_fields=("seed", "data.split_seed"),
        metrics={f"{by}target_test/accuracy": "maximize" for by in ("oracle/", "last/", "")},
        changes={"optimizer.clip": 0.0, "train.epochs": 10.0},
        short={
            "data.per_class": 100, "data.target_size": 1000, "train.batch_size": 64, "train.evaluate_every": 2.0,
        },
        full={"train.batch_size": 256, "train.evaluate_every": 1.0},
    )  # fmt: skip
