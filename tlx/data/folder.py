"""Reads a folder of images: a subfolder for each class, a table beside the images, or images only.

The conventions are those of Hugging Face's `imagefolder`. The class is the name of the direct subfolder; or
`metadata.csv` or `metadata.jsonl` lists the images in a column `file_name`, with other columns such as labels. A folder
may also hold folders of splits, `train`, `validation` and `test` (or the other names that `imagefolder`, fastai and
torchvision use for them), each of which is such a folder of images; one split is read at a time.
"""

import os
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any

from tlx.data.readers import READERS
from tlx.errors import TlxError, listed

SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
METADATA = {f"metadata.{kind}": READERS[kind].columns for kind in ("csv", "jsonl")}


def read_folder(where: str) -> dict[str, list[Any]]:
    """Reads the columns of `folder:PATH` or `folder:PATH@SPLIT`.

    Hidden files, and files whose suffix is not that of an image, are ignored.

    Args:
      where: `PATH` or `PATH@SPLIT`.

    Returns:
      `image`, the paths of the images sorted by name (or in the order of the table's rows). If the folder has
      `metadata.csv` or `metadata.jsonl`, also the table's other columns. If it has subfolders, also `label`, the name
      of the subfolder that an image is in.

    Raises:
      TlxError: the folder does not exist or has no images; a class has no images; there are images beside class
        folders; a table names a file that is missing or outside of the folder; the folder holds splits and none is
        named.
    """
    folder = folder_of(where)
    if splits := splits_in(folder):
        example = next(iter(splits))
        raise TlxError(
            f"{folder} holds folders of splits ({listed(splits.values())}), not of classes; name one, as in"
            f" {where}@{example} or {where}/{splits[example]}."
        )
    tables = [folder / name for name in METADATA if (folder / name).is_file()]
    if len(tables) > 1:
        raise TlxError(f"{folder} holds both {listed(METADATA)}; keep the one that is meant.")
    if tables:
        return _with_table(folder, tables[0])
    flat, classes = _images(folder, deep=False), _folders(folder)
    if classes and flat:
        raise TlxError(
            f"{folder} holds images ({listed((file.name for file in flat), 3)}) beside folders ({listed(classes, 3)});"
            " expected either a folder for each class or images alone."
        )
    if classes:
        return _with_classes(folder, classes)
    if not flat:
        raise TlxError(f"{folder} holds no images; expected a folder for each class, a metadata.csv, or images.")
    return {"image": flat}


def splits_in(folder: Path) -> dict[str, str]:
    """Returns the folders of splits in a folder, by `train`, `validation` and `test`; {} if it holds no splits.

    A folder holds splits if all of its subfolders have names of splits. One subfolder with such a name among others,
    such as `train`, is a class.

    Raises:
      TlxError: there are folders of two or more splits beside others, or two folders of one split.
    """
    names = _folders(folder)
    if any((folder / name).is_file() for name in METADATA):
        return {}
    by_split = {split: [name for name in names if name.lower() in known] for split, known in SPLITS.items()}
    by_split = {split: folders for split, folders in by_split.items() if folders}
    split_folders = [name for folders in by_split.values() for name in folders]
    others = sorted(set(names).difference(split_folders))
    if others and len(by_split) < 2:
        return {}
    if others:
        raise TlxError(
            f"{folder} holds folders of splits ({listed(split_folders)}) beside others ({listed(others, 3)});"
            f" name one, as in {folder / split_folders[0]}, or take the others away."
        )
    for split, folders in by_split.items():
        if len(folders) > 1:
            raise TlxError(f"{folder} holds {listed(folders)}, each a folder of {split} images; keep one of them.")
    return {split: folders[0] for split, folders in by_split.items()}


def folder_of(where: str) -> Path:
    """Returns the folder that `PATH` or `PATH@SPLIT` names."""
    folder = Path(where).expanduser()
    root, at, split = where.rpartition("@")
    if at and root and not folder.is_dir() and Path(root).expanduser().is_dir():
        splits = splits_in(Path(root).expanduser())
        standard_name = next((name for name, known in SPLITS.items() if split.lower() in known), split)
        if standard_name not in splits:
            present = f"there is {listed(splits.values())}" if splits else "it holds no folders of splits"
            raise TlxError(f"data 'folder:{where}': there is no split {split!r} in {root}; {present}.")
        return Path(root).expanduser() / splits[standard_name]
    if not where or not folder.is_dir():
        raise TlxError(f"data 'folder:{where}': there is no folder {folder}.")
    return folder


def _folders(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise TlxError(f"the folder {folder} cannot be listed: {error.strerror}.") from None


def _with_classes(folder: Path, classes: list[str]) -> dict[str, list[Any]]:
    for name in classes:  # all images below a class would be read, also those of a test split
        splits_below = {
            split for split, known in SPLITS.items() if {inner.lower() for inner in _folders(folder / name)} & {*known}
        }
        if {"train"} < splits_below:
            raise TlxError(
                f"{folder / name} holds folders of splits ({listed(_folders(folder / name))}) below a class; put the"
                f" classes below the splits, as in {folder}/train/{name}."
            )
    by_class = {name: _images(folder / name, deep=True) for name in classes}
    if empty := [name for name, images in by_class.items() if not images]:
        raise TlxError(f"{folder}: no images in the class folder(s) {listed(empty)}; fill them or take them away.")
    return {
        "image": [image for images in by_class.values() for image in images],
        "label": [name for name, images in by_class.items() for _ in images],
    }


def _images(folder: Path, deep: bool) -> list[Path]:
    """Returns the images in a folder, and below it if `deep`, sorted by path; links to folders are not followed."""
    suffixes = _suffixes()
    images = (file for file in _files(folder, deep) if file.suffix.lower() in suffixes)
    return sorted(images, key=lambda file: file.parts)


def _files(folder: Path, deep: bool) -> Iterator[Path]:
    for place, folders, files in os.walk(folder, onerror=_refuse):
        folders[:] = [name for name in folders if deep and not name.startswith(".")]
        yield from (Path(place, name) for name in files if not name.startswith("."))


def _refuse(error: OSError) -> None:
    raise TlxError(f"the folder {error.filename} cannot be listed: {error.strerror}.") from None


def _suffixes() -> set[str]:
    """Returns the file suffixes of the formats that Pillow reads."""
    from PIL import Image

    return {suffix for suffix, format_ in Image.registered_extensions().items() if format_ in Image.OPEN}


def _with_table(folder: Path, table: Path) -> dict[str, list[Any]]:
    columns = METADATA[table.name](table)
    if not columns:
        raise TlxError(f"{table} holds no rows.")
    if "file_name" not in columns:
        raise TlxError(f"{table} has no column 'file_name'; its columns are {listed(columns)}.")
    if "image" in columns:
        raise TlxError(f"{table} has a column 'image', which is what the images themselves are called; rename it.")
    real = Path(os.path.realpath(folder))
    images = [_inside(folder, real, name, f"{table}, row {row}") for row, name in enumerate(columns["file_name"], 1)]
    return {"image": images, **{name: values for name, values in columns.items() if name != "file_name"}}


def _inside(folder: Path, real: Path, name: Any, where: str) -> Path:
    """Returns the file that a row of a table names.

    Args:
      folder: the folder of the images.
      real: the same folder with links resolved.
      name: the value of `file_name`.
      where: the table and the row, for messages.

    Raises:
      TlxError: the file does not exist or is outside of the folder.
    """
    if not isinstance(name, str) or not name.strip() or "\0" in name:
        raise TlxError(f"{where}: file_name is {name!r}; expected the path of an image below {folder}.")
    path = PurePath(name)
    if path.is_absolute() or ".." in path.parts:
        raise TlxError(f"{where}: file_name {name!r} leads out of {folder}; expected a path below it.")
    file = folder / path
    if not Path(os.path.realpath(file)).is_relative_to(real):
        raise TlxError(f"{where}: {name!r} is a link that leads out of {folder}; put the file itself there.")
    try:
        exists = file.is_file()
    except OSError:  # the name is not valid, e.g. too long
        exists = False
    if not exists:
        raise TlxError(f"{where}: there is no file {file}.")
    return file
