"""Methods of domain adaptation on digits of $TLX_DATA, with the network and rate of skada-bench.

python experiments/ablate.py --study=configs/studies/adapt_digits.py:mnist-usps --workdir=runs/studies/adapt_mnist-usps

The argument is SOURCE-TARGET of `mnist`, `usps`, `mnist_m`; each pair is a study of its own. The recipe is SGD at 0.1
for 10 epochs of the source. Methods have their papers' settings, except for DAN, whose trade-off grows from 0, and
nothing is tuned. skada-bench has a momentum of 0.6 and a weight decay of 1e-5 besides, normalises USPS by its own
moments, has a discriminator of 1024 x 1024 with dropout, and chooses trade-offs on a grid. DANN has a second arm with a
tenth of the trade-off, because in trials of both libraries it was better on the target: it was chosen with the target's
labels, so its gain is none that a user could have had. So was the second arm of DAN: skada sums 33 kernels over all
pairs of rows, where the paper's estimate is the mean of kernels over successive pairs. "DANN, falling rate" has the
paper's schedule of the rate in place of a constant one.

The short form has 100 source images of each class, 1,000 target images and batches of 64. With `--full` all images of
$TLX_DATA are used, in batches of 256.

The arms "…, skada" are the same methods in scikit-adaptation, on the same images in the same batches with the same
recipe (benchmarks/adaptation/theirs.py). "DANN from logits, skada" has no sigmoid, whose gradient is 0 where its value
rounds to 0 or 1. The Python is TLX_ADAPTATION_PYTHON, or that of
`make .venv-adaptation/.ready`.
"""

import json
import os

from tlx.studies.study import Study

SKADA = os.environ.get("TLX_ADAPTATION_PYTHON", ".venv-adaptation/bin/python")

METHODS = {
    "source only": {"method.name": "source_only"},
    "DAN": {"method.name": "dan", "method.warm_start": 10.0},
    "Deep CORAL": {"method.name": "deep_coral"},
    "DANN": {"method.name": "dann", "method.discriminator": (100,)},
    "DANN, trade-off 0.1": {"method.name": "dann", "method.discriminator": (100,), "method.trade_off": 0.1},
    "DANN, falling rate": {
        "method.name": "dann", "method.discriminator": (100,), "optimizer.schedule": "inverse",
    },
    "DAN, all pairs, trade-off 33": {
        "method.name": "dan", "method.warm_start": 10.0, "method.trade_off": 33.0, "method.estimator": "unbiased",
    },
    "DeepJDOT": {"method.name": "deepjdot"},
    "MCC": {"method.name": "mcc"},
    "target trained": {"method.name": "target_trained"},
}  # fmt: skip


THEIRS = {name: METHODS[name] for name in ("source only", "DAN", "Deep CORAL", "DANN", "DANN, trade-off 0.1", "MCC")}
THEIRS["DANN from logits"] = {**METHODS["DANN"], "domain_logits": True}


def get_study(pair: str = "mnist-usps") -> Study:
    """The study of one pair of domains."""
    script = (SKADA, "benchmarks/adaptation/theirs.py", pair, "{seed}", "{result}", "{changes}")
    return Study(
        name=f"adapt_{pair}",
        config=f"../adapt_digits.py:{pair}",
        commands={f"{name}, skada": (*script, json.dumps(fields)) for name, fields in THEIRS.items()},
        factors={"method": METHODS},
        seeds=3,
        seed_fields=("seed", "data.split_seed"),
        metrics={f"{by}target_test/accuracy": "maximize" for by in ("oracle/", "last/", "")},
        changes={
            "optimizer.learning_rate": 0.1, "optimizer.momentum": 0.0, "optimizer.clip": 0.0, "train.epochs": 10.0,
        },
        short={
            "data.per_class": 100, "data.target_size": 1000, "train.batch_size": 64, "train.evaluate_every": 2.0,
        },
        full={"train.batch_size": 256, "train.evaluate_every": 1.0},
    )  # fmt: skip
