"""Where rows come from: `csv:PATH`, `tsv:PATH`, `jsonl:PATH`, `conll:PATH`, `builtin:NAME`, read into columns."""

import csv
import dataclasses
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tlx.data import colors, conll
from tlx.errors import TlxError, listed


@dataclasses.dataclass(frozen=True)
class Table:
    """Columns of equal length. name: the spec it was read from, for messages."""

    name: str
    columns: dict[str, Any]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def column(self, name: str) -> Any:
        """A column, or a sentence that names the ones there are."""
        if name not in self.columns:
            raise TlxError(f"{self.name} has no column {name!r}; its columns are {listed(self.columns)}.")
        return self.columns[name]

    def rows(self, indices: np.ndarray) -> "Table":
        """The table of these rows."""
        taken = {
            k: v[indices] if isinstance(v, np.ndarray) else [v[i] for i in indices] for k, v in self.columns.items()
        }
        return Table(self.name, taken)


BUILTIN = {"colors": colors.columns}


def load(spec: str) -> Table:
    """Reads a data spec, `KIND:WHERE`; environment variables in it are expanded.

    Raises:
      TlxError: an unknown kind, a file that is missing, empty, not UTF-8 or malformed (with its line).
    """
    kind, colon, where = os.path.expandvars(spec).partition(":")
    if kind == "builtin":
        if where not in BUILTIN:
            raise TlxError(f"data {spec!r}: there is no builtin set {where!r}; there is {listed(BUILTIN)}.")
        return Table(spec, BUILTIN[where]())
    if not colon or kind not in READERS:
        raise TlxError(f"data {spec!r} is not of the form KIND:PATH with KIND one of {listed([*READERS, 'builtin'])}.")
    if "$" in where:
        raise TlxError(f"data {spec!r} names an environment variable that is not set.")
    file = Path(where).expanduser()
    if not file.is_file():
        raise TlxError(f"data {spec!r}: there is no file {file}.")
    try:
        table = Table(spec, READERS[kind](file))
    except UnicodeDecodeError as error:
        raise TlxError(
            f"{file} is not UTF-8 (byte {error.start}: {error.reason}); convert it, e.g. with iconv."
        ) from None
    if not table.columns or not len(table):
        raise TlxError(f"{file} holds no rows.")
    return table


def _delimited(file: Path, delimiter: str) -> dict[str, list[str]]:
    """A header line, then rows; quotes as in RFC 4180."""
    with file.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.reader(lines, delimiter=delimiter)
        try:
            return _transpose(file, next(reader, []), ((reader.line_num, row) for row in reader if row))
        except csv.Error as error:
            raise TlxError(f"{file}, line {reader.line_num}: {error}.") from None


def _transpose(file: Path, header: Sequence[str], rows: Iterator[tuple[int, list[str]]]) -> dict[str, list[str]]:
    columns: dict[str, list[str]] = {name: [] for name in header}
    if len(columns) < len(header):
        raise TlxError(f"{file}: two columns have the same name in its header {listed(header)}.")
    for line, row in rows:
        if len(row) != len(header):
            raise TlxError(f"{file}, line {line}: {len(row)} fields where the header has {len(header)}.")
        for name, value in zip(header, row, strict=True):
            columns[name].append(value)
    return columns


def _jsonl(file: Path) -> dict[str, list[Any]]:
    """One JSON object a line, all with the same keys."""
    columns: dict[str, list[Any]] = {}
    with file.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise TlxError(f"{file}, line {number} is not JSON: {error.msg}.") from None
            if not isinstance(row, dict) or (columns and row.keys() != columns.keys()):
                raise TlxError(
                    f"{file}, line {number} is no object with the keys of the first line, {listed(columns)}."
                )
            for name, value in row.items():
                columns.setdefault(name, []).append(value)
    return columns


READERS = {
    "csv": lambda file: _delimited(file, ","),
    "tsv": lambda file: _delimited(file, "\t"),
    "jsonl": _jsonl,
    "conll": conll.read,
}
