"""The target domain of a run: its unlabelled stream, its checks, and the bound that is trained on its labels."""

from collections.abc import Collection, Iterable, Mapping

from ml_collections import ConfigDict

from tlx.errors import TlxError, listed
from tlx.methods.api import Method
from tlx.models.heads import PER_TEXT
from tlx.recipes.datasets import Datasets
from tlx.recipes.inputs import augmentation
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
    if DEFAULT not in datasets or TARGET not in datasets[DEFAULT].examples:
        return {}
    examples = datasets[DEFAULT].examples[TARGET]
    size = config.train.target_batch_size
    return {TARGET: Stream(examples, config.train.batch_size if size is None else size)}


def check_target(config: ConfigDict, in_memory: Collection[str] = ()) -> None:
    """Raises `TlxError` if a run with a target has a head, an augmentation or a batch size that does not go with it.

    Args:
      config: the run's config.
      in_memory: names of the sets that are given in memory in place of the config's.
    """
    found = [part for part in (TARGET, TARGET_TEST) if config.data[part] or part in in_memory]
    kind, size = config.head.kind, config.train.target_batch_size
    if found and kind not in PER_TEXT:
        raise TlxError(
            f"config.data.{found[0]} is set, and config.head.kind is {kind!r}; it is {listed(PER_TEXT)} then."
        )
    if size is not None and size < 1:
        raise TlxError(f"config.train.target_batch_size is {size}; it must be above 0, or None for train.batch_size.")
    if TARGET in found and augmentation(config.augment).mixing.on:
        raise TlxError("mixup and cutmix mix labels, and examples of config.data.target have none; leave them off.")


def check_streams(methods: Iterable[Method], names: Collection[str]) -> None:
    """Raises `TlxError` if a method reads a stream that is not among the names."""
    for method in methods:
        if missing := sorted(set(method.streams) - set(names)):
            hint = "; name it in config.data.target" if missing[0] == TARGET else ""
            name = type(method).__name__
            raise TlxError(f"the method {name} reads the stream {missing[0]!r}, which the run lacks{hint}.")
