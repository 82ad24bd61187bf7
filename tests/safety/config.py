"""The runs that are disturbed, one for each argument: `--config=tests/safety/config.py:KIND`."""

import os
from pathlib import Path

from ml_collections import ConfigDict

from tests import tiny

STEPS = 8  # of each run


def get_config(kind: str) -> ConfigDict:
    """A run of 8 steps with four evaluations, each of which saves, on the files in the folder $TLX_SAFETY.

    Args:
      kind: `plain`, `phases`, `lora`, `averages` or `players`.
    """
    place = Path(os.environ["TLX_SAFETY"])
    config = tiny.config(place / "checkpoint", place / "reviews.csv")
    config.train.epochs, config.train.evaluate_every, config.train.log_every = 2.0, 0.5, 1
    config.train.monitor = "validation/loss"
    # Too high, so that the best checkpoint (of step 2 or 4) is not the newest.
    config.optimizer.learning_rate, config.optimizer.schedule = 0.2 if kind == "plain" else 0.05, "constant"
    config.parallel.data = -1
    if kind == "phases":
        config.params.phases = ({"trainable": "last:1"}, {"start": 0.75})
    elif kind == "lora":
        config.lora.rank = 2
    elif kind == "averages":
        config.average.kind, config.average.decay = "ema", 0.9
        config.l2_sp.alpha, config.l2_sp.beta = 1e-2, 1e-3
    elif kind == "players":
        config.method.name = "adversarial"
        config.params.phases = ({}, {"start": 1.0, "method": "self_training"})
    elif kind != "plain":
        raise ValueError(kind)
    return config
