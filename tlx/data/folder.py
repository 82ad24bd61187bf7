"""A folder of images: a subfolder per class, a table beside the images, or images alone.

The conventions are those of Hugging Face's `imagefolder`: the class is the name of the direct subfolder, or
`metadata.csv` or `metadata.jsonl` lists the images in a column `file_name` with whatever else is known of them.
"""

import os
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any

from tlx.data.tabular import read_delimited, read_jsonl
from tlx.errors import TlxError, listed

METADATA = {"metadata.csv": lambda file: read_delimited(file, ","), "metadata.jsonl": read_jsonl}


def read_folder(where: str) -> dict[str, list[Any]]:
    """The columns of `folder:PATH`; `image` holds paths, in the order of the names (or of the table's rows).

    With `metadata.csv` or `metadata.jsonl` in the folder: `image` and the table's other columns. With subfolders:
    `image` and `label`, the subfolder's name, of all images below it. Else `image` alone. Hidden files, and files whose
    suffix is none of an image, are left out.

    Raises:
      TlxError: no folder, no images; a class without images; images beside class folders; a table that names a file
        that is missing or outside of the folder.
    """
    folder = Path(where).expanduser()
    if not where or not folder.is_dir():
        raise TlxError(f"data 'folder:{where}': there is no folder {folder}.")
    tables = [folder / name for name in METADATA if (folder / name).is_file()]
    if len(tables) > 1:
        raise TlxError(f"{folder} holds both {listed(METADATA)}; keep the one that is meant.")
    if tables:
        return _with_table(folder, tables[0])
    flat = _images(folder, deep=False)
    classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
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


def _with_classes(folder: Path, classes: list[str]) -> dict[str, list[Any]]:
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
