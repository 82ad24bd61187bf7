"""Restricts tensorflow-datasets for untrusted prepared datasets to regular files and to its own feature classes.

Without this, tfds imports the module of every class that `features.json` (or `dataset_info.json`) names, and opens
every file that a description names.
"""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tlx.errors import TlxError
from tlx.files.regular import open_regular, read_bytes

DESCRIPTIONS = (".json", ".txt")
MOST_BYTES = 8 * 2**20  # the most bytes of a description; the largest published ones (many classes) have 1 MB
MOST_CLASSES = 10**6

_lock = threading.Lock()


def check_files(spec: str, folder: Path) -> None:
    """Checks every file below a prepared dataset's folder before tfds opens it.

    Args:
      spec: the data spec, for messages.
      folder: the dataset's folder.

    Raises:
      TlxError: a file is a pipe, a device or a git-lfs pointer, cannot be opened, or is a description of more than
        8 MiB.
    """
    for file in sorted(entry for entry in folder.rglob("*") if not entry.is_dir()):
        try:
            if file.suffix in DESCRIPTIONS:
                read_bytes(file, MOST_BYTES)
            else:
                open_regular(file).close()
        except TlxError as error:
            raise TlxError(f"{spec}: {error}") from None


@contextlib.contextmanager
def own_features(folder: Path) -> Iterator[None]:
    """In the `with` block, tfds builds only feature classes of its package `tensorflow_datasets.core.features`.

    tfds calls `FeatureConnector.cls_from_name` for every class name in a file. It is replaced here by a function that
    refuses a class that is not registered yet, where tfds would import it. Label names are read only from regular files
    of limited size below `folder`. One thread at a time can enter the block.

    Args:
      folder: the dataset's folder.
    """
    from tensorflow_datasets.core import features
    from tensorflow_datasets.core.features import class_label_feature

    connector = features.FeatureConnector
    lookup, names_of = connector.__dict__["cls_from_name"], class_label_feature._load_names_from_file

    def cls_from_name(cls: Any, name: str) -> Any:
        feature_class = cls._registered_features.get(name)
        if feature_class is None or not feature_class.__module__.startswith("tensorflow_datasets.core.features."):
            raise TlxError(
                f"it asks for the feature class {name!r:.200}, which is not one of tensorflow_datasets' own and"
                " is not imported; prepare the set with features of tfds."
            )
        return feature_class

    def names_from(file: Any) -> list[str]:
        if not Path(file).exists():  # a ClassLabel without names; tfds expects an OSError
            raise FileNotFoundError(file)
        if not Path(file).resolve().is_relative_to(folder.resolve()):
            raise TlxError(f"it takes the names of its labels from {file}, which lies outside of the set.")
        lines = read_bytes(Path(file), MOST_BYTES).decode("utf-8").split("\n")
        return [line.strip() for line in lines if line.strip()]

    with _lock:
        connector.cls_from_name = classmethod(cls_from_name)
        class_label_feature._load_names_from_file = names_from
        try:
            yield
        finally:
            connector.cls_from_name = lookup
            class_label_feature._load_names_from_file = names_of


def check_shards(spec: str, builder: Any) -> None:
    """Checks where the files of the splits are and how many rows they claim to have.

    Args:
      spec: the data spec, for messages.
      builder: tfds's builder of the dataset.

    Raises:
      TlxError: a split names files outside of the dataset's folder, or claims more rows than its files have bytes.
    """
    folder = Path(builder.data_path)
    stored = sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
    for name, split in builder.info.splits.items():
        first = split.filename_template.sharded_filepath(shard_index=0, num_shards=max(split.num_shards, 1))
        if Path(first).parent != folder:
            raise TlxError(f"{spec}: the split {name!r} names files outside of {folder}; prepare the set again.")
        if split.num_examples > stored:
            raise TlxError(
                f"{spec}: the split {name!r} is said to have {split.num_examples:,} rows, and all files together have"
                f" {stored:,} bytes; prepare the set again."
            )
