"""Sets prepared by tensorflow-datasets, read from their files without TensorFlow.

Only what lies on disk is read: no builder's code runs and nothing is downloaded. Preparing a set is one command, which
the error gives when the set is not there.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from tlx.data.lazy import Lazy
from tlx.data.tfds_guard import MOST_CLASSES, check_files, check_shards, own_features
from tlx.errors import TlxError, listed

Convert = Callable[[Any], Any]


def read_tfds(where: str) -> dict[str, Any]:
    """The columns of `NAME[/CONFIG][:VERSION][@SPLIT]`, SPLIT `train` if not said; slices (`train[:10%]`) too.

    Texts come as str, labels as their names (whole numbers where the names are numbers, None where hidden), numbers as
    numbers, sequences of these as lists. Images come as a `Lazy` column, each row's read, still encoded, when it is
    asked for; nested features and images of floats are left out. The folder is TFDS_DATA_DIR, else
    ~/tensorflow_datasets.

    Raises:
      TlxError: a set that is not prepared, not readable without TensorFlow, damaged or without such columns; an unknown
        split; a package that is missing.
    """
    name, at, split = where.partition("@")
    try:
        return _read(f"data 'tfds:{where}'", name, split if at else "train")
    except ImportError as error:
        package = (error.name or "tensorflow_datasets").partition(".")[0]
        raise TlxError(
            f"data 'tfds:{where}' needs a package that is missing ({error}); run pip install {package}."
        ) from None


def _read(spec: str, name: str, split: str) -> dict[str, Any]:
    from tensorflow_datasets.core import decode, features, read_only_builder, registered

    folder = Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
    sets = folder / name.partition("/")[0].partition(":")[0]
    if sets != folder and sets.parent == folder and ".." not in sets.parts:
        check_files(spec, sets)
    try:
        with own_features(sets):
            builder = read_only_builder.builder_from_files(name, data_dir=str(folder))
    except registered.DatasetNotFoundError:
        raise TlxError(_not_prepared(spec, name, folder)) from None
    except ImportError:
        raise
    except TlxError as error:
        raise TlxError(f"{spec}: {sets}: {error}") from None
    except Exception as error:  # tfds and protobuf raise a dozen kinds; each is told in its first line
        raise TlxError(
            f"{spec}: {name!r} cannot be opened in {folder} ({_first_line(error)}); expected the name of a whole set,"
            " NAME[/CONFIG][:VERSION]."
        ) from None
    check_shards(spec, builder)
    found = dict(sorted(builder.info.features.items()))
    kept = {column: convert for column, feature in found.items() if (convert := _convert(spec, feature, features))}
    images = [column for column, feature in found.items() if _is_image(feature, features)]
    if not kept and not images:
        raise TlxError(f"{spec} has no column of texts, labels, numbers or images; its features are {listed(found)}.")
    nested = (features.FeaturesDict, features.Sequence)  # of these tfds wants a decoder for each part
    skipped = {
        column: decode.SkipDecoding()
        for column, feature in found.items()
        if column not in kept and not isinstance(feature, nested)
    }
    records = _open(spec, builder, split, skipped)
    columns = {
        **(_columns(spec, records, kept) if kept else {}),
        **{name: _lazy(spec, records, name) for name in images},
    }
    return dict(sorted(columns.items()))


def _open(spec: str, builder: Any, split: str, skipped: dict[str, Any]) -> Any:
    """The split's records, refused with a sentence where tfds would end in its own traceback."""
    try:
        if builder.info.splits[split].num_examples:
            return builder.as_data_source(split, decoders=skipped)
    except NotImplementedError:
        raise TlxError(
            f"{spec}: {builder.data_path} is stored as {builder.info.file_format.value}, which only TensorFlow reads;"
            " delete it or choose another TFDS_DATA_DIR, then prepare it as array_record:"
            f" {_command(builder.info.full_name.rpartition('/')[0])}"
        ) from None
    except (ValueError, KeyError) as error:
        raise TlxError(
            f"{spec}: there is no split {split!r}; there is {listed(builder.info.splits)} ({_first_line(error)})."
        ) from None
    except (OSError, RuntimeError) as error:
        raise _damaged(spec, error) from None
    raise TlxError(f"{spec} holds no rows.")


def _columns(spec: str, records: Iterable[Any], kept: dict[str, Convert]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {column: [] for column in kept}
    try:
        for row, record in enumerate(records, 1):
            for column, convert in kept.items():
                try:
                    columns[column].append(convert(record[column]))
                except UnicodeDecodeError as error:
                    raise TlxError(
                        f"{spec}, row {row}: the text in {column!r} is not UTF-8 (byte {error.start}: {error.reason});"
                        " prepare the set again from files in UTF-8."
                    ) from None
    except (OSError, RuntimeError) as error:
        raise _damaged(spec, error) from None
    return columns


def _lazy(spec: str, records: Any, column: str) -> Lazy:
    """The column's images as they are stored, encoded."""

    def read(row: int) -> bytes:
        try:
            return records[row][column]
        except (OSError, RuntimeError) as error:
            raise _damaged(spec, error) from None

    return Lazy(read, range(len(records)))


def _is_image(feature: Any, features: Any) -> bool:
    """Whether what is stored is an image file; one of floats is four bytes a number, put into a PNG."""
    return isinstance(feature, features.Image) and np.dtype(feature.np_dtype) in (np.uint8, np.uint16)


def _convert(spec: str, feature: Any, features: Any) -> Convert | None:
    """What makes plain Python of one feature's value; None for a feature that is no text, label or number."""
    if isinstance(feature, features.ClassLabel):
        return _label(spec, feature)
    if isinstance(feature, features.Sequence):
        inner = _convert(spec, feature.feature, features)
        return inner and (lambda values: [inner(value) for value in values])
    if isinstance(feature, features.Tensor) and feature.shape == ():
        return _scalar
    return None


def _label(spec: str, feature: Any) -> Convert:
    """An index to its class name; below 0 it stands for a label that the set hides."""
    if (feature.num_classes or 0) > MOST_CLASSES:  # without names of its own, tfds makes one for each
        raise TlxError(f"{spec}: a label is said to have {feature.num_classes:,} classes, more than {MOST_CLASSES:,}.")
    names: list[Any] = list(feature.names or []) if feature.num_classes else []
    if all(name.isdecimal() and name.isascii() for name in names):
        names = [int(name) for name in names]
    return lambda index: None if index < 0 else names[index] if names else int(index)


def _scalar(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    return value.item() if hasattr(value, "item") else value


def _not_prepared(spec: str, name: str, folder: Path) -> str:
    there = sorted(path.name for path in (folder / name.partition("/")[0]).glob("[!.]*") if path.is_dir())
    found = f" (under {name.partition('/')[0]} there is {listed(there)})" if there else ""
    return (
        f"{spec}: {name} is not prepared in {folder}{found}; run {_command(name)} – on a machine that has TensorFlow"
        " where the set asks for it: what this writes is read here without."
    )


def _command(name: str) -> str:
    """tensorflow_datasets.text is imported because without TensorFlow tfds does not find the sets in it by itself."""
    return (
        'python -c "import tensorflow_datasets as tfds, tensorflow_datasets.text;'
        f" tfds.builder('{name}', file_format='array_record').download_and_prepare()\""
    )


def _damaged(spec: str, error: Exception) -> TlxError:
    return TlxError(f"{spec}: its files are damaged ({_first_line(error)}); delete its folder and prepare it again.")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
