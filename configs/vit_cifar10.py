"""ViT on CIFAR-10: ViT-B/16 at 224 pixels, AdamW 5e-4, batch 64.

    python experiments/finetune.py --config=configs/vit_cifar10.py --workdir=runs/vit_cifar10

Or the paper's recipe (Dosovitskiy et al. 2021, B.1.1 and table 4): SGD with momentum 0.9 at 384 pixels, batch 512, a
cosine schedule from 0.03 (the paper selects one of four rates on validation) after 500 warm-up steps, no weight decay,
gradients clipped to norm 1, 10,000 steps:

    python experiments/finetune.py --config=configs/vit_cifar10.py:sgd --workdir=runs/vit_cifar10_sgd

Not run here: both download google/vit-base-patch16-224-in21k and the data set. With a small ViT and the copy under
$TLX_DATA:

    python experiments/finetune.py --config=configs/vit_cifar10.py:mini --workdir=runs/cifar10

Scores: docs/results.md.
"""

from ml_collections import ConfigDict

from tlx.errors import TlxError
from tlx.recipes import defaults


def get_config(arg: str = "adamw") -> ConfigDict:
    """The config of `experiments/finetune.py`.

    Args:
      arg: `adamw`, `sgd`, or `mini`, which needs no download.
    """
    config = defaults.finetune()
    config.model.checkpoint = "google/vit-base-patch16-224-in21k"
    config.data.train, config.data.test = "tfds:cifar10@train", "tfds:cifar10@test"
    config.data.validation_fraction = 0.02
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_steps = 500
    if arg == "adamw":
        config.model.image_size = 224
        config.optimizer.learning_rate = 5e-4
        config.train.epochs, config.train.batch_size = 5.0, 64
    elif arg == "sgd":
        config.model.image_size = 384
        config.optimizer.name, config.optimizer.learning_rate = "sgd", 0.03
        config.params.groups.default.weight_decay = 0.0
        config.train.epochs, config.train.batch_size = 10_000 * 512 / 49_000, 512
    elif arg == "mini":
        config.model.checkpoint = "$TLX_DATA/weights/vit_mini_cifar8"
        config.data.train, config.data.test = "npz:$TLX_DATA/cifar10/train.npz", "npz:$TLX_DATA/cifar10/dev.npz"
        config.data.validation_fraction = 0.1
        config.optimizer.learning_rate, config.optimizer.warmup_steps = 5e-4, 50
        config.train.epochs, config.train.batch_size = 10.0, 64
    else:
        raise TlxError(f"configs/vit_cifar10.py takes 'adamw', 'sgd' or 'mini', found {arg!r}.")
    return config
