"""Few images per class: a small ViT on 20 images of each CIFAR-10 class, with all blocks frozen except the last.

    python experiments/finetune.py --config=configs/few_shot.py --workdir=runs/few_shot

For another number: --config.data.per_class=5. Scores: docs/results.md.
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
