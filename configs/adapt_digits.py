"""Digits of one kind to digits of another kind, without labels of the latter, with a small convolutional network.

Offline, in a minute: scikit-learn's digits to other digits of it on coloured backgrounds, in the manner of MNIST-M.

    python experiments/adapt.py --config=configs/adapt_digits.py --workdir=runs/adapt

MNIST, USPS and MNIST-M under $TLX_DATA; the network, batch size, learning rate and epochs are those of skada-bench:

    python experiments/adapt.py --config=configs/adapt_digits.py:mnist-usps --workdir=runs/mnist-usps
    python experiments/adapt.py --config=configs/adapt_digits.py:mnist-mnist_m --config.method.name=mcc --workdir=runs/m

Another method: --config.method.name=NAME; `source_only` and `target_trained` are the bounds.
Scores: docs/adaptation_methods.md (configs/studies/adapt_digits.py).
"""

from pathlib import Path

from ml_collections import ConfigDict

from tlx.errors import TlxError
from tlx.recipes import defaults

SETS = ("mnist", "usps", "mnist_m")


def get_config(arg: str = "") -> ConfigDict:
    """The config of `experiments/adapt.py`.

    Args:
      arg: `SOURCE-TARGET`, folders of $TLX_DATA with train.npz and dev.npz; empty: scikit-learn's digits.
    """
    config = defaults.finetune()
    config.model.weights = "random"
    config.method.name = "dann"
    if not arg:
        config.model.checkpoint = str(Path(__file__).parent / "convnet_small")
        config.data.train, config.data.validation_fraction = "builtin:digits_source", 0.2
        config.data.target, config.data.target_test = "builtin:digits_target", "builtin:digits_target_test"
        config.optimizer.learning_rate, config.optimizer.schedule = 3e-3, "cosine"
        config.train.epochs, config.train.batch_size, config.train.evaluate_every = 12.0, 64, 2.0
        return config
    source, _, target = arg.partition("-")
    if source not in SETS or target not in SETS:
        raise TlxError(f"configs/adapt_digits.py takes SOURCE-TARGET of {', '.join(SETS)}, found {arg!r}.")
    config.model.checkpoint = str(Path(__file__).parent / "convnet_digits")
    config.data.train = f"npz:$TLX_DATA/{source}/train.npz"
    config.data.validation = f"npz:$TLX_DATA/{source}/dev.npz"
    config.data.target = f"npz:$TLX_DATA/{target}/train.npz"
    config.data.target_test = f"npz:$TLX_DATA/{target}/dev.npz"
    config.optimizer.name, config.optimizer.learning_rate, config.optimizer.momentum = "sgd", 0.1, 0.0
    config.optimizer.schedule, config.optimizer.warmup_fraction = "constant", 0.0
    config.params.groups.default.weight_decay = 0.0
    config.train.epochs, config.train.batch_size, config.train.eval_batch_size = 10.0, 256, 256
    return config
