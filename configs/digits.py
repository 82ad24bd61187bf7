"""A small ViT from random weights on scikit-learn's 1,797 handwritten digits of 8 × 8 pixels; offline, under a minute.

    python experiments/finetune.py --config=configs/digits.py --workdir=runs/digits

Its shape is configs/vit_digits/config.json. Scores: docs/results.md.
"""

from pathlib import Path

from ml_collections import ConfigDict

from tlx.recipes import defaults


def get_config() -> ConfigDict:
    """The config of `experiments/finetune.py`."""
    config = defaults.finetune()
    config.model.checkpoint = str(Path(__file__).parent / "vit_digits")
    config.model.weights = "random"
    config.data.train, config.data.test_fraction = "builtin:digits", 0.2
    config.optimizer.learning_rate = 2e-3
    config.optimizer.schedule = "cosine"
    config.train.epochs = 20.0
    config.train.batch_size = 64
    config.train.evaluate_every = 2.0
    return config
