"""What is trained × learning rate × examples of each class on SST-2 with MiniLM: 90 runs, with $TLX_DATA/sst2.

python experiments/ablate.py --study=configs/studies/sst2_freezing.py --workdir=runs/studies/sst2_freezing --workers=2
"""

from tlx.studies.study import Study


def get_study() -> Study:
    """The study."""
    trained = {"full": "", "last 2 blocks": "last:2", "head": "heads"}
    return Study(
        name="sst2_freezing",
        config="../text_file.py:sst2",
        factors={
            "trained": {name: {"params.trainable": value} for name, value in trained.items()},
            "rate": {rate: {"optimizer.learning_rate": float(rate)} for rate in ("1e-4", "1e-3", "1e-2")},
            "size": {f"{n} a class": {"data.per_class": n} for n in (50, 200, 800)},
        },
        exclude=({"trained": ("full", "last 2 blocks"), "rate": "1e-2"}, {"trained": "head", "rate": "1e-4"}),
        baseline={"trained": "full", "rate": "1e-4", "size": "200 a class"},
        seeds=5,
        seed_fields=("seed", "data.split_seed"),
        metrics={"test/accuracy": "maximize", "validation/accuracy": "maximize"},
        changes={"head.pooling": "mean", "data.max_length": 64, "data.validation_fraction": 0.02},
        short={"train.epochs": 3.0, "train.evaluate_every": 1.0},
        full={"train.epochs": 10.0, "train.evaluate_every": 1.0, "seeds": 10},
    )
