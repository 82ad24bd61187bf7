"""Texts packed into rows of one length beside a text in each row, on SST-2 with MiniLM: ten runs, with $TLX_DATA/sst2.

python experiments/ablate.py --study=configs/studies/packing.py --workdir=runs/studies/packing
"""

from tlx.studies.study import Study


def get_study() -> Study:
    """The study."""
    return Study(
        name="packing",
        config="../text_file.py:sst2",
        factors={"packing": {name: {"data.packing": name} for name in ("off", "auto")}},
        seeds=5,
        metrics={"test/accuracy": "maximize", "validation/accuracy": "maximize", "test/loss": "minimize"},
        changes={"head.pooling": "mean", "optimizer.learning_rate": 1e-4, "train.evaluate_every": 1.0},
        short={"data.per_class": 800, "data.validation_fraction": 0.02, "train.epochs": 1.0},
        full={"train.epochs": 1.0},
    )
