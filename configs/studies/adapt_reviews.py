"""Methods of domain adaptation on Amazon reviews of $TLX_DATA with MiniLM, at 128 tokens.

python experiments/ablate.py --study=configs/studies/adapt_reviews.py:books-electronics \\
    --workdir=runs/studies/adapt_books-electronics

The argument is SOURCE-TARGET of `books`, `dvd`, `electronics`; each pair is a study of its own. Methods have their
papers' settings, except for DAN, whose trade-off grows from 0; nothing is tuned.

The short form has 90 reviews of each class of the source and 200 of the target, which are drawn anew for each seed,
and is meant for two pairs, `books-electronics` and `dvd-books`. With `--full` all reviews are used.
"""

from tlx.studies.study import Study

METHODS = {
    "source only": {"method.name": "source_only"},
    "DANN": {"method.name": "dann"},
    "CDAN+E": {"method.name": "cdan_e"},
    "DAN": {"method.name": "dan", "method.warm_start": 10.0},
    "Deep CORAL": {"method.name": "deep_coral"},
    "MCC": {"method.name": "mcc"},
    "SHOT": {"method.name": "shot", "loss.label_smoothing": 0.1},
    "target trained": {"method.name": "target_trained"},
}


def get_study(pair: str = "books-electronics") -> Study:
    """The study of one pair of domains."""
    return Study(
        name=f"adapt_{pair}",
        config=f"../adapt_text.py:{pair}",
        factors={"method": METHODS},
        seeds=3,
        seed_fields=("seed", "data.split_seed"),
        metrics={f"{by}target_test/accuracy": "maximize" for by in ("oracle/", "last/", "")},
        changes={"data.test": "", "head.pooling": "mean", "train.epochs": 3.0, "train.evaluate_every": 1.0},
        short={
            "data.per_class": 90, "data.target_size": 200, "data.validation_fraction": 0.05, "train.batch_size": 16,
        },
        full={"train.batch_size": 32},
    )  # fmt: skip
