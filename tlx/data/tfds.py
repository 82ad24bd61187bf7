"""Reads datasets that were prepared by tensorflow-datasets, without TensorFlow.

Only files on disk are read: no code of a dataset builder runs, and nothing is downloaded. If a dataset has not been
prepared, the error gives the command that prepares it.
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
    """Reads the columns of a prepared dataset in TFDS_DATA_DIR (by default ~/tensorflow_datasets).

    Texts become str, labels their names (integers if the names are numbers, None if the label is hidden), numbers stay
    numbers, and sequences of these become lists. Images become a `Lazy` column of encoded images, which are read on
    access. Nested features and images of floats are left out.

    Args:
      where: `NAME[/CONFIG][:VERSION][@SPLIT]`. The default split is `train`; a slice such as `train[:10%]` is possible.

    Raises:
      TlxError: the dataset is not prepared, cannot be read without TensorFlow, is damaged or has no such columns; the
        split does not exist; a package is missing.
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
    except Exception as error:  # tfds and protobuf raise a dozen kinds; the message quotes the first line
        raise TlxError(
            f"{spec}: {name!r} cannot be opened in {folder} ({_first_line(error)}); expected the name of a whole set,"
            " NAME[/CONFIG][:VERSION]."
        ) from None
    check_shards(spec, builder)
    by_column = dict(sorted(builder.info.features.items()))
    kept = {column: convert for column, feature in by_column.items() if (convert := _convert(spec, feature, features))}
    images = [column for column, feature in by_column.items() if _is_image(feature, features)]
    if not kept and not images:
        raise TlxError(
            f"{spec} has no column of texts, labels, numbers or images; its features are {listed(by_column)}."
        )
    nested = (features.FeaturesDict, features.Sequence)  # tfds needs a decoder for each part of these
    skipped = {
        column: decode.SkipDecoding()
        for column, feature in by_column.items()
        if column not in kept and not isinstance(feature, nested)
    }
    records = _open(spec, builder, split, skipped)
    columns = {
        **(_columns(spec, records, kept) if kept else {}),
        **{name: _lazy(spec, records, name) for name in images},
    }
    return dict(sorted(columns.items()))


def _open(spec: str, builder: Any, split: str, skipped: dict[str, Any]) -> Any:
    """Opens the records of a split; errors of tfds become a `TlxError`."""
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
    """Returns a column of images as they are stored, encoded."""

    def read(row: int) -> bytes:
        try:
            return records[row][column]
        except (OSError, RuntimeError) as error:
            raise _damaged(spec, error) from None

    return Lazy(read, range(len(records)))


def _is_image(feature: Any, features: Any) -> bool:
    """Returns whether a feature is stored as an image file; tfds packs float images into a PNG of their bytes."""
    return isinstance(feature, features.Image) and np.dtype(feature.np_dtype) in (np.uint8, np.uint16)


def _convert(spec: str, feature: Any, features: Any) -> Convert | None:
    """Returns the function that converts a feature's values to plain Python; None if the feature is not supported."""
    if isinstance(feature, features.ClassLabel):
        return _label(spec, feature)
    if isinstance(feature, features.Sequence):
        inner = _convert(spec, feature.feature, features)
        return inner and (lambda values: [inner(value) for value in values])
    if isinstance(feature, features.Tensor) and feature.shape == ():
        return _scalar
    return None


def _label(spec: str, feature: Any) -> Convert:
    """Returns the function that converts a class index to its name, and a negative index (a hidden label) to None."""
    if (feature.num_classes or 0) > MOST_CLASSES:  # tfds makes a name for each class if the dataset has none
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
    prepared = sorted(path.name for path in (folder / name.partition("/")[0]).glob("[!.]*") if path.is_dir())
    others = f" (under {name.partition('/')[0]} there is {listed(prepared)})" if prepared else ""
    return (
        f"{spec}: {name} is not prepared in {folder}{others}; run {_command(name)} – on a machine that has TensorFlow"
        " if the dataset needs it to be prepared; tlx reads the result without TensorFlow."
    )


def _command(name: str) -> str:
    """Returns the command that prepares a dataset.

    It imports tensorflow_datasets.text, because without TensorFlow tfds does not find the datasets in that package.
    """
    return (
        'python -c "import tensorflow_datasets as tfds, tensorflow_datasets.text;'
        f" tfds.builder('{name}', file_format='array_record').download_and_prepare()\""
    )


def _damaged(spec: str, error: Exception) -> TlxError:
    return TlxError(f"{spec}: its files are damaged ({_first_line(error)}); delete its folder and prepare it again.")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
