"""A few images of each class: a small ViT on 20 of each of CIFAR-10's classes, its blocks frozen but for the last.

    python experiments/finetune.py --config=configs/few_shot.py --workdir=runs/few_shot

For more or fewer: --config.data.per_class=5. Scores: docs/results.md.
"""

from ml_collections import ConfigDict

from tlx.recipes import defaults


def get_config() -> ConfigDict:
    """The config of `experiments/finetune.py`."""
    config = defaults.finetune()
    config.model.checkpoint = "$TLX_DATA/weights/vit_mini_cifar8"
    config.data.train, config.data.test = "npz:$TLX_DATA/cifar10/train.npz", "npz:$TLX_DATA/cifar10/dev.npz"
    config.data.per_class = 20
    config.params.rules = ((r"backbone/(embeddings|encoder/layer/[0-2])/.*", "frozen"),)
    config.optimizer.learning_rate = 5e-4
    config.train.epochs = 20.0
    config.train.batch_size = 32
    config.train.evaluate_every = 2.0
    return config
