"""What tensorflow-datasets may do with a prepared set of somebody else's: read regular files, build its own features.

By itself it imports the module of every class that `features.json` (or `dataset_info.json`) names, and opens whatever
file a description names.
"""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tlx.errors import TlxError
from tlx.files.regular import open_regular, read_bytes

DESCRIPTIONS = (".json", ".txt")
MOST_BYTES = 8 * 2**20  # of one of these; the largest published ones, of tens of thousands of classes, have 1 MB
MOST_CLASSES = 10**6

_lock = threading.Lock()


def check_files(spec: str, folder: Path) -> None:
    """Opens every file below a prepared set's folder once, so that tfds meets regular files of bounded descriptions.

    Raises:
      TlxError: a pipe, a device, a git-lfs pointer, a file that cannot be opened, or a description of more than 8 MiB.
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
    """Within it, tfds builds only the feature classes of its package `tensorflow_datasets.core.features`.

    All ways lead through `FeatureConnector.cls_from_name`, whatever file and whatever spelling a name comes from, so
    the check stands there: a class that is not known yet is refused in place of imported. Names of labels are read from
    regular files of bounded size below `folder`. One thread at a time.
    """
    from tensorflow_datasets.core import features
    from tensorflow_datasets.core.features import class_label_feature

    own = features.FeatureConnector
    lookup, names_of = own.__dict__["cls_from_name"], class_label_feature._load_names_from_file

    def cls_from_name(cls: Any, name: str) -> Any:
        found = cls._registered_features.get(name)
        if found is None or not found.__module__.startswith("tensorflow_datasets.core.features."):
            raise TlxError(
                f"it asks for the feature class {name!r:.200}, which is none of tensorflow_datasets' own and"
                " is not imported; prepare the set with features of tfds."
            )
        return found

    def names_from(file: Any) -> list[str]:
        if not Path(file).exists():  # a ClassLabel without names; tfds expects an OSError
            raise FileNotFoundError(file)
        if not Path(file).resolve().is_relative_to(folder.resolve()):
            raise TlxError(f"it takes the names of its labels from {file}, which lies outside of the set.")
        lines = read_bytes(Path(file), MOST_BYTES).decode("utf-8").split("\n")
        return [line.strip() for line in lines if line.strip()]

    with _lock:
        own.cls_from_name = classmethod(cls_from_name)
        class_label_feature._load_names_from_file = names_from
        try:
            yield
        finally:
            own.cls_from_name = lookup
            class_label_feature._load_names_from_file = names_of


def check_shards(spec: str, builder: Any) -> None:
    """Refuses splits whose files lie elsewhere than the set's own, and more rows than its files have bytes.

    Raises:
      TlxError: as said.
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
