"""A folder of images: a subfolder per class, a table beside the images, or images alone.

The conventions are those of Hugging Face's `imagefolder`: the class is the name of the direct subfolder, or
`metadata.csv` or `metadata.jsonl` lists the images in a column `file_name` with whatever else is known of them. A root
of the folders `train`, `validation`, `test` (under any name that `imagefolder`, fastai or torchvision give them) holds
splits, each of them such a folder; one is read at a time.
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
    """The columns of `folder:PATH` or `folder:PATH@SPLIT`.

    `image` holds paths, in the order of the names (or of the table's rows). With `metadata.csv` or `metadata.jsonl` in
    the folder: `image` and the table's other columns. With subfolders: `image` and `label`, the subfolder's name, of
    all images below it. Else `image` alone. Hidden files, and files whose suffix is none of an image, are left out.

    Raises:
      TlxError: no folder, no images; a class without images; images beside class folders; a table that names a file
        that is missing or outside of the folder; a root of splits, and none of them named.
    """
    folder = _folder(where)
    if found := splits_in(folder):
        example = next(iter(found))
        raise TlxError(
            f"{folder} holds folders of splits ({listed(found.values())}), not of classes; name one, as in"
            f" {where}@{example} or {where}/{found[example]}."
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
    """The folders of splits that a folder holds, by `train`, `validation` and `test`; {} where it holds none.

    It does where all its folders are called like splits; a class `train` among others is a class.

    Raises:
      TlxError: folders of two splits or more beside others, or two of one split.
    """
    names = _folders(folder)
    if any((folder / name).is_file() for name in METADATA):
        return {}
    found = {split: [name for name in names if name.lower() in known] for split, known in SPLITS.items()}
    found = {split: held for split, held in found.items() if held}
    called = [name for held in found.values() for name in held]
    others = sorted(set(names).difference(called))
    if others and len(found) < 2:
        return {}
    if others:
        raise TlxError(
            f"{folder} holds folders of splits ({listed(called)}) beside others ({listed(others, 3)});"
            f" name one, as in {folder / called[0]}, or take the others away."
        )
    for split, held in found.items():
        if len(held) > 1:
            raise TlxError(f"{folder} holds {listed(held)}, each a folder of {split} images; keep one of them.")
    return {split: held[0] for split, held in found.items()}


def _folder(where: str) -> Path:
    """The folder that `PATH` or `PATH@SPLIT` names."""
    folder = Path(where).expanduser()
    root, at, split = where.rpartition("@")
    if at and root and not folder.is_dir() and Path(root).expanduser().is_dir():
        found = splits_in(Path(root).expanduser())
        wanted = next((name for name, known in SPLITS.items() if split.lower() in known), split)
        if wanted not in found:
            there = f"there is {listed(found.values())}" if found else "it holds no folders of splits"
            raise TlxError(f"data 'folder:{where}': there is no split {split!r} in {root}; {there}.")
        return Path(root).expanduser() / found[wanted]
    if not where or not folder.is_dir():
        raise TlxError(f"data 'folder:{where}': there is no folder {folder}.")
    return folder


def _folders(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise TlxError(f"the folder {folder} cannot be listed: {error.strerror}.") from None


def _with_classes(folder: Path, classes: list[str]) -> dict[str, list[Any]]:
    for name in classes:  # all images below a class are read, those of a test split too
        below = {
            split for split, known in SPLITS.items() if {found.lower() for found in _folders(folder / name)} & {*known}
        }
        if {"train"} < below:
            raise TlxError(
                f"{folder / name} holds folders of splits ({listed(_folders(folder / name))}) below a class; put the"
                f" classes below the splits, as in {folder}/train/{name}."
            )
    found = {name: _images(folder / name, deep=True) for name in classes}
    if empty := [name for name, images in found.items() if not images]:
        raise TlxError(f"{folder}: no images in the class folder(s) {listed(empty)}; fill them or take them away.")
    return {
        "image": [image for images in found.values() for image in images],
        "label": [name for name, images in found.items() for _ in images],
    }


def _images(folder: Path, deep: bool) -> list[Path]:
    """Sorted by the parts of their paths; links to folders below are not followed."""
    suffixes = _suffixes()
    found = (file for file in _files(folder, deep) if file.suffix.lower() in suffixes)
    return sorted(found, key=lambda file: file.parts)


def _files(folder: Path, deep: bool) -> Iterator[Path]:
    for place, folders, files in os.walk(folder, onerror=_refuse):
        folders[:] = [name for name in folders if deep and not name.startswith(".")]
        yield from (Path(place, name) for name in files if not name.startswith("."))


def _refuse(error: OSError) -> None:
    raise TlxError(f"the folder {error.filename} cannot be listed: {error.strerror}.") from None


def _suffixes() -> set[str]:
    """Of the formats that Pillow reads."""
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
    """The file that a row names. real: the folder, links resolved."""
    if not isinstance(name, str) or not name.strip() or "\0" in name:
        raise TlxError(f"{where}: file_name is {name!r}; expected the path of an image below {folder}.")
    path = PurePath(name)
    if path.is_absolute() or ".." in path.parts:
        raise TlxError(f"{where}: file_name {name!r} leads out of {folder}; expected a path below it.")
    file = folder / path
    if not Path(os.path.realpath(file)).is_relative_to(real):
        raise TlxError(f"{where}: {name!r} is a link that leads out of {folder}; put the file itself there.")
    try:
        there = file.is_file()
    except OSError:  # a name that no file can have
        there = False
    if not there:
        raise TlxError(f"{where}: there is no file {file}.")
    return file
