"""Checks of a config: of its values before anything is read, and of settings that do not work together."""

from collections.abc import Mapping

import jax
import numpy as np
from ml_collections import ConfigDict

from tlx.errors import TlxError
from tlx.methods.finetune import head_loss
from tlx.modalities.api import Inputs
from tlx.models.model import Model
from tlx.optim.groups import as_group
from tlx.recipes.cached_features import check_features
from tlx.recipes.fields import check_fields
from tlx.recipes.packing import check_packing
from tlx.training.tasks import Task


def check_config(config: ConfigDict) -> None:
    """Raises `TlxError` for invalid values that can be detected without data and checkpoint."""
    check_fields(config)
    if not config.model.checkpoint:
        raise TlxError("config.model.checkpoint names no checkpoint (a folder, package:NAME/FOLDER, or a hub id).")
    positive = {
        "train.epochs": config.train.epochs,
        "train.batch_size": config.train.batch_size,
        "train.accumulate": config.train.accumulate,
        "train.eval_batch_size": config.train.eval_batch_size,
        "train.evaluate_every": config.train.evaluate_every,
        "train.log_every": config.train.log_every,
        "train.keep": config.train.keep,
        "data.max_length": config.data.max_length,
        "optimizer.learning_rate": config.optimizer.learning_rate,
    }
    for name, value in positive.items():
        if not value > 0:
            raise TlxError(f"config.{name} is {value}; it must be above 0.")
    if config.train.max_skipped < 0:
        raise TlxError(f"config.train.max_skipped is {config.train.max_skipped}; it must be at least 0.")
    if config.resume not in ("auto", "never"):
        raise TlxError(f"config.resume is {config.resume!r}; it is 'auto' (go on) or 'never' (refuse a used workdir).")
    if not config.data.cache:
        raise TlxError("config.data.cache is empty; it is 'auto', 'off' or a folder.")
    check_features(config.features)
    check_packing(config)
    for name, group in config.params.groups.items():
        as_group(f"config.params.groups.{name}", dict(group))


def check_max_length(config: ConfigDict, model: Model) -> None:
    """Raises `TlxError` if texts may be longer than the model's position embeddings."""
    limit = getattr(model.backbone.config, "max_length", None)
    if limit is not None and config.data.max_length > limit:
        raise TlxError(f"config.data.max_length is {config.data.max_length}; this checkpoint has {limit} positions.")


def check_mixing(inputs: Inputs, tasks: Mapping[str, Task]) -> None:
    """Raises `TlxError` if mixup or CutMix is used with a loss that takes class indices only."""
    augmentation = getattr(inputs, "augmentation", None)
    if augmentation is None or not augmentation.mixing.on:
        return
    if len(tasks) > 1 or any(task.joint is not None for task in tasks.values()):
        raise TlxError("config.augment.mixup and cutmix mix the labels of one task; leave them off with config.tasks.")
    for task in tasks.values():
        shares = jax.ShapeDtypeStruct((2, task.head.outputs), np.float32)  # of each class, in two examples
        try:
            jax.eval_shape(head_loss(task.head, task.loss), shares, shares, jax.ShapeDtypeStruct((2,), np.float32))
        except (TypeError, ValueError) as error:
            raise TlxError(
                f"config.loss.name is {task.loss.name!r}, a loss that takes no labels (examples, classes), which mixup "
                "and cutmix make; take another loss, or leave them off."
            ) from error
