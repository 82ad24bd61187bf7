"""Methods of domain adaptation on digits of two kinds, with the network and settings of skada-bench ($TLX_DATA).

python experiments/ablate.py --study=configs/studies/adapt_digits.py:mnist-usps --workdir=runs/studies/mnist-usps

The pairs are SOURCE-TARGET of mnist, usps and mnist_m. `selected` needs no label of the target, the oracle reads them.
"""

from tlx.studies.study import Study

METHODS = ("source_only", "dan", "deep_coral", "dann", "deepjdot", "mcc", "target_trained")


def get_study(pair: str = "mnist-usps") -> Study:
    """The study of one pair."""
    accuracy = "target_test/accuracy"
    return Study(
        name=f"adapt_{pair}",
        config=f"../adapt_digits.py:{pair}",
        factors={"method": {name: {"method.name": name} for name in METHODS}},
        seeds=3,
        metrics=dict.fromkeys(
            (accuracy, f"last/{accuracy}", f"information_maximization/{accuracy}", f"oracle/{accuracy}"), "maximize"
        ),
        changes={"train.evaluate_every": 1.0},
        short={"train.epochs": 10.0},
        full={"train.epochs": 10.0, "seeds": 5},
    )
