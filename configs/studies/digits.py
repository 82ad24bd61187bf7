"""Schedule × learning rate of a small ViT on the handwritten digits of scikit-learn: twelve runs in about a minute.

python experiments/ablate.py --study=configs/studies/digits.py --workdir=runs/studies/digits
"""

from tlx.studies.study import Study


def get_study() -> Study:
    """The study."""
    return Study(
        name="digits",
        config="../digits.py",
        factors={
            "schedule": {name: {"optimizer.schedule": name} for name in ("cosine", "constant")},
            "rate": {"2e-3": {"optimizer.learning_rate": 2e-3}, "5e-4": {"optimizer.learning_rate": 5e-4}},
        },
        seeds=3,
        metrics={"test/accuracy": "maximize", "validation/accuracy": "maximize"},
        short={"train.epochs": 3.0},
        full={"train.epochs": 20.0, "seeds": 5},
    )
