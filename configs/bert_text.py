"""BERT text classification: AdamW 5e-5, batch 32, 3 epochs, from a file with columns `text` and `label`.

    python experiments/finetune.py --config=configs/bert_text.py --workdir=runs/bert --config.data.train=csv:mine.csv

Not run here: it downloads bert-base-uncased. The argument names another checkpoint: a hub id, a folder or package:….
"""

from ml_collections import ConfigDict

from tlx.recipes import defaults


def get_config(arg: str = "google-bert/bert-base-uncased") -> ConfigDict:
    """The config of `experiments/finetune.py`.

    Args:
      arg: the checkpoint.
    """
    config = defaults.finetune()
    config.model.checkpoint = arg
    config.data.max_length = 128
    config.optimizer.learning_rate = 5e-5
    config.train.epochs = 3.0
    config.train.batch_size = 32
    return config
