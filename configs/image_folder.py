"""Classification of images, with one folder per class.

    python experiments/finetune.py --config=configs/image_folder.py --workdir=runs/mine \\
        --config.data.train=folder:photos --config.model.checkpoint=google/vit-base-patch16-224-in21k

Not run here: it downloads the checkpoint, and the photos are yours.
"""

from ml_collections import ConfigDict

from tlx.recipes import defaults


def get_config() -> ConfigDict:
    """The config of `experiments/finetune.py`."""
    config = defaults.finetune()
    config.data.test_fraction = 0.1
    config.optimizer.learning_rate = 1e-4
    config.optimizer.schedule = "cosine"
    config.train.epochs = 10.0
    config.train.batch_size = 32
    return config
