"""Images in folders, one folder of images for each class in each domain, such as Office-31 or Office-Home.

    python experiments/adapt.py --config=configs/adapt_image_folder.py --workdir=runs/amazon-webcam \\
        --config.model.checkpoint=google/vit-base-patch16-224-in21k \\
        --config.data.train=folder:office31/amazon --config.data.target=folder:office31/webcam

By the usual protocol all images of the target are there without labels, and the same images are the test set: then add
--config.data.target_test=folder:office31/webcam. Their labels are read for the report alone. Not run here.
"""

from ml_collections import ConfigDict

from tlx.recipes import defaults


def get_config() -> ConfigDict:
    """The config of `experiments/adapt.py`."""
    config = defaults.finetune()
    config.method.name = "cdan_e"
    config.augment.preset = "flip_crop"
    config.optimizer.learning_rate = 3e-5
    config.params.head_multiplier = 10.0
    config.train.epochs, config.train.batch_size = 10.0, 32
    return config
