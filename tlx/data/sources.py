"""Where rows come from, read into columns.

`csv:`, `tsv:`, `jsonl:`, `conll:`, `squad:` or `npz:PATH` is one file, `folder:PATH[@SPLIT]` a folder of images,
`builtin:NAME` ships with the packages that tlx needs, `tfds:NAME` was prepared by tensorflow-datasets.
"""

import dataclasses
import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tlx.data import colors, digits
from tlx.data.folder import folder_of, read_folder, splits_in
from tlx.data.lazy import Lazy
from tlx.data.readers import READERS
from tlx.data.tfds import read_tfds
from tlx.errors import TlxError, listed
from tlx.files.regular import open_regular


@dataclasses.dataclass(frozen=True)
class Table:
    """Columns of equal length.

    Attributes:
      name: the spec of the source, for messages.
      columns: the columns by name: lists, arrays, or `Lazy` columns, whose values are read row by row.
      numbers: for each row, the index of that row in the source; None: the table has all rows of the source.
      left_out: the number of rows of the source that were left out because they have no label.
      excluded: the number of rows that were left out because their text is in a set of `config.data.exclude`.
      parts: if the source is several tables that were joined, the number of rows of each; ().
    """

    name: str
    columns: dict[str, Any]
    numbers: np.ndarray | None = None
    left_out: int = 0
    excluded: int = 0
    parts: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    @property
    def source_rows(self) -> np.ndarray:
        """For each row, the index of that row in the source, int64 (n,)."""
        return np.arange(len(self)) if self.numbers is None else self.numbers.astype(np.int64)

    def place(self, row: int) -> str:
        """Returns the table's name and the row, counted from 1 in its source, for messages."""
        return f"{self.name}, row {1 + (row if self.numbers is None else int(self.numbers[row]))}"

    def column(self, name: str) -> Any:
        """Returns a column.

        Raises:
          TlxError: the table has no such column; the message names its columns.
        """
        if name not in self.columns:
            raise TlxError(f"{self.name} has no column {name!r}; its columns are {listed(self.columns)}.")
        return self.columns[name]

    def rows(self, indices: np.ndarray) -> "Table":
        """Returns the table of these rows; indices: integers (n,)."""
        columns = {
            name: column[indices] if isinstance(column, (np.ndarray, Lazy)) else [column[i] for i in indices]
            for name, column in self.columns.items()
        }
        numbers = np.asarray(indices) if self.numbers is None else self.numbers[indices]
        return dataclasses.replace(self, columns=columns, numbers=numbers)


def joined(tables: Sequence[Table]) -> Table:
    """Returns the rows of several tables, one table after the other, with the columns that all of them have.

    Rows are numbered through all tables.

    Raises:
      TlxError: the tables share no column, or one is read row by row (`tfds:`).
    """
    if len(tables) == 1:
        return tables[0]
    names = [name for name in tables[0].columns if all(name in table.columns for table in tables)]
    name = " + ".join(table.name for table in tables)
    if not names:
        raise TlxError(f"{name}: these sets have no column in common.")
    columns: dict[str, Any] = {}
    for column in names:
        parts = [table.columns[column] for table in tables]
        if any(isinstance(part, Lazy) for part in parts):
            raise TlxError(f"{name}: a set that is read row by row (tfds:) cannot be joined with another.")
        same = all(isinstance(part, np.ndarray) and part.shape[1:] == parts[0].shape[1:] for part in parts)
        columns[column] = np.concatenate(parts) if same else [value for part in parts for value in part]
    sizes = tuple(len(table) for table in tables)
    return Table(name, columns, left_out=sum(table.left_out for table in tables), parts=sizes)


BUILTIN: dict[str, Callable[[], dict[str, Any]]] = {
    "colors": colors.columns,
    "digits": digits.columns,
    "digits_source": digits.source,
    "digits_target": digits.target,
    "digits_target_test": digits.target_test,
}


def load(spec: str) -> Table:
    """Reads a data spec, `KIND:WHERE`; environment variables in it are expanded.

    Raises:
      TlxError: an unknown kind, a set or a file that is missing, empty, not UTF-8 or malformed (with its line).
    """
    kind, where = check_source(spec)
    if kind in SETS:
        return Table(spec, SETS[kind](where))
    file = Path(where).expanduser()
    table = Table(spec, READERS[kind].columns(file))
    if not table.columns or not len(table):
        raise TlxError(f"{file} holds no rows.")
    return table


def check_source(spec: str) -> tuple[str, str]:
    """Returns the kind and the place of a data spec, and reads nothing.

    Raises:
      TlxError: an unknown kind, or a file or folder that is missing.
    """
    kind, colon, where = os.path.expandvars(spec).partition(":")
    if not colon or kind not in {**READERS, **SETS}:
        raise TlxError(f"data {spec!r} is not of the form KIND:PATH with KIND one of {listed([*READERS, *SETS], 99)}.")
    if "$" in where:
        raise TlxError(f"data {spec!r} names an environment variable that is not set.")
    file = Path(where).expanduser()
    if kind in READERS and not file.exists():  # what is no regular file is named by the reader
        raise TlxError(f"data {spec!r}: there is no file {file}.")
    if kind == "folder":
        folder_of(where)
    return kind, where


def source_digest(where: str | os.PathLike[str]) -> str:
    """Returns a string that changes whenever the content of a data spec, a file or a folder changes.

    It is the SHA-256 of a file, and for a folder the SHA-256 of the names, sizes and modification times of its files.
    What is not there, and a set that is known by its name (`builtin:`, `tfds:`), is represented by its name.
    """
    name = os.path.expandvars(os.fspath(where))
    kind, _, path = name.partition(":")
    place = Path(path if kind in READERS or kind == "folder" else name).expanduser()
    if place.is_file():
        with open_regular(place) as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    root = place if place.is_dir() or "@" not in place.name else place.with_name(place.name.rpartition("@")[0])
    if not root.is_dir():
        return name
    files = sorted(file for file in root.rglob("*") if file.is_file())
    facts = [f"{file} {(stat := file.stat()).st_size} {stat.st_mtime_ns}" for file in files]
    return hashlib.sha256("\n".join([name, *facts]).encode()).hexdigest()


def splits_of(spec: str) -> dict[str, str]:
    """The specs of `train`, `validation` and `test` in a `folder:` that holds folders of splits; {} for any other."""
    kind, _, where = os.path.expandvars(spec).partition(":")
    if kind != "folder" or not where or not Path(where).expanduser().is_dir():
        return {}
    return {split: f"{spec}@{split}" for split in splits_in(Path(where).expanduser())}


def _builtin(name: str) -> dict[str, Any]:
    if name not in BUILTIN:
        raise TlxError(f"data 'builtin:{name}': there is no builtin set {name!r}; there is {listed(BUILTIN)}.")
    return BUILTIN[name]()


SETS: dict[str, Callable[[str], dict[str, Any]]] = {"folder": read_folder, "builtin": _builtin, "tfds": read_tfds}
