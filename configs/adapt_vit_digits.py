"""The offline digits of configs/adapt_digits.py with a small ViT from random weights, in a minute.

    python experiments/adapt.py --config=configs/adapt_vit_digits.py --workdir=runs/adapt_vit

Its shape is configs/vit_digits/config.json. --config.method.name=source_only is the run to compare with.
Scores: docs/adaptation_methods.md.
"""

from pathlib import Path

from ml_collections import ConfigDict

from tlx.recipes import defaults


def get_config() -> ConfigDict:
    """The config of `experiments/adapt.py`."""
    config = defaults.finetune()
    config.model.checkpoint = str(Path(__file__).parent / "vit_digits")
    config.model.weights = "random"
    config.data.train, config.data.validation_fraction = "builtin:digits_source", 0.2
    config.data.target, config.data.target_test = "builtin:digits_target", "builtin:digits_target_test"
    config.method.name = "deep_coral"
    config.optimizer.learning_rate, config.optimizer.schedule = 2e-3, "cosine"
    config.train.epochs, config.train.batch_size, config.train.evaluate_every = 20.0, 64, 2.0
    return config
