"""The target domain of a run: its unlabelled stream, its checks, and the bound that is trained on its labels."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from tlx.errors import TlxError, listed
from tlx.modalities.api import Inputs
from tlx.models.heads import PER_TEXT
from tlx.recipes.datasets import Datasets
from tlx.recipes.splits import TARGET, TARGET_TEST
from tlx.training.tasks import DEFAULT, Stream

TARGET_TRAINED = "target_trained"  # the method that is fine-tuning on the target's labels, an upper bound


def with_target_as_source(config: ConfigDict) -> ConfigDict:
    """Returns the config of a run of `target_trained`, whose training set is `data.target` with its labels.

    Validation is split from it, and there is neither a test set of the source nor a set without labels. The config of
    any other run is returned as it is.

    Raises:
      TlxError: if there is no `data.target`.
    """
    if config.method.name != TARGET_TRAINED:
        return config
    if not config.data.target:
        raise TlxError("the method target_trained is trained on config.data.target, which names no data.")
    config = config.copy_and_resolve_references()
    config.data.train, config.data.target = config.data.target, ""
    config.data.validation, config.data.test, config.data.sources = "", "", ()
    print(f"data: target_trained reads the labels of {config.data.train}, as a bound; it is no adaptation.", flush=True)
    return config


def target_streams(config: ConfigDict, datasets: Mapping[str, Datasets]) -> dict[str, Stream]:
    """Returns the stream `target` of a run with `data.target`; {} for any other run.

    Its order is its own, and so is its batch size, `train.target_batch_size`.
    """
    examples = datasets[DEFAULT].examples.get(TARGET)
    if examples is None:
        return {}
    size = config.train.target_batch_size
    return {TARGET: Stream(examples, config.train.batch_size if size is None else size)}


def no_stream(name: str, method: Any) -> TlxError:
    """The error of a method that reads a stream which the run lacks."""
    hint = "; name it in config.data.target" if name == TARGET else ""
    return TlxError(f"the method {type(method).__name__} reads the stream {name!r}, which the run lacks{hint}.")


def check_target(config: ConfigDict, datasets: Mapping[str, Datasets], inputs: Inputs) -> None:
    """Raises `TlxError` if a run with a target has a head, an augmentation or a batch size that does not go with it."""
    found = [part for part in (TARGET, TARGET_TEST) if part in datasets[DEFAULT].examples]
    kind, size = config.head.kind, config.train.target_batch_size
    if found and kind not in PER_TEXT:
        raise TlxError(
            f"config.data.{found[0]} is set, and config.head.kind is {kind!r}; it is {listed(PER_TEXT)} then."
        )
    if size is not None and size < 1:
        raise TlxError(f"config.train.target_batch_size is {size}; it must be above 0, or None for train.batch_size.")
    augmentation = getattr(inputs, "augmentation", None)
    if TARGET in found and augmentation is not None and augmentation.mixing.on:
        raise TlxError("mixup and cutmix mix labels, and examples of config.data.target have none; leave them off.")
