"""The loss settings of a head, from `config.loss`."""

import numpy as np
from ml_collections import ConfigDict

from tlx.data.examples import ExampleSet
from tlx.errors import TlxError, listed
from tlx.losses.by_name import LOSSES, loss_name
from tlx.methods.finetune import LossSettings
from tlx.models.heads import Head

SHARED = ("name", "label_smoothing", "class_weights", "balanced")  # fields of `config.loss` whatever the loss is


def loss_settings(config: ConfigDict, head: Head, train: ExampleSet) -> LossSettings:
    """Makes the loss settings of a head.

    Fields of `config.loss` that are not in `SHARED` are arguments of the loss.

    Args:
      config: `config.loss`.
      head: the head.
      train: the training set, on which balanced class weights are counted.

    Raises:
      TlxError: if a setting is invalid or does not apply to the loss.
    """
    weights = tuple(float(weight) for weight in config.class_weights)
    arguments = {field: value for field, value in config.items() if field not in SHARED and value is not None}
    _check_fields(config, head, set(arguments))
    if weights and (config.balanced or len(weights) != head.outputs):
        raise TlxError(
            f"config.loss.class_weights has {len(weights)} weights; it is one for each of the {head.outputs} classes "
            f"({listed(head.labels)}), or none with config.loss.balanced."
        )
    if config.balanced:
        weights = _balanced_weights(head, train)
    return LossSettings(config.label_smoothing, weights, config.name, tuple(sorted(arguments.items())))


def _check_fields(config: ConfigDict, head: Head, arguments: set[str]) -> None:
    """Checks that the loss of the head has the settings that are used."""
    if not 0 <= config.label_smoothing < 1:
        raise TlxError(f"config.loss.label_smoothing is {config.label_smoothing}; it is at least 0 and below 1.")
    name = loss_name(head.kind, config.name)
    settings = LOSSES[name].settings
    used = arguments | {field for field in ("label_smoothing", "class_weights") if config[field]}
    for field in sorted(used - {*settings}):
        raise TlxError(
            f"config.loss.{field} is {config[field]!r}, but {name}, the loss of this {head.kind} head, "
            + (f"takes {listed(settings)}." if settings else "takes no settings.")
        )
    if config.balanced and (head.kind in ("regression", "masked_lm") or "class_weights" not in settings):
        raise TlxError(f"config.loss.balanced is true, but {name} of a {head.kind} head has no classes to weigh.")


def _balanced_weights(head: Head, train: ExampleSet) -> tuple[float, ...]:
    """Returns n / (classes * count) of each class; for multilabel, negatives / positives of each label."""
    labels = train.labels if train.words is None else train.labels[train.words.labelled]
    if head.kind == "multilabel":
        positives = np.maximum(labels.sum(axis=0), 1)
        return tuple(((len(labels) - positives) / positives).tolist())
    counts = np.bincount(labels, minlength=head.outputs)
    return tuple((len(labels) / (head.outputs * np.maximum(counts, 1))).tolist())
