"""Where rows come from: `csv:`, `tsv:`, `jsonl:` or `conll:PATH`, `builtin:NAME`, `tfds:NAME`, read into columns."""

import csv
import dataclasses
import io
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tlx.data import colors
from tlx.data.conll import read_conll
from tlx.data.textfile import read_text
from tlx.data.tfds import read_tfds
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
      TlxError: an unknown kind, a set or a file that is missing, empty, not UTF-8 or malformed (with its line).
    """
    kind, colon, where = os.path.expandvars(spec).partition(":")
    if not colon or kind not in {**READERS, **SETS}:
        raise TlxError(f"data {spec!r} is not of the form KIND:PATH with KIND one of {listed([*READERS, *SETS])}.")
    if "$" in where:
        raise TlxError(f"data {spec!r} names an environment variable that is not set.")
    if kind in SETS:
        return Table(spec, SETS[kind](where))
    file = Path(where).expanduser()
    if not file.is_file():
        raise TlxError(f"data {spec!r}: there is no file {file}.")
    table = Table(spec, READERS[kind](file))
    if not table.columns or not len(table):
        raise TlxError(f"{file} holds no rows.")
    return table


def _builtin(name: str) -> dict[str, Any]:
    if name not in BUILTIN:
        raise TlxError(f"data 'builtin:{name}': there is no builtin set {name!r}; there is {listed(BUILTIN)}.")
    return BUILTIN[name]()


def _delimited(file: Path, delimiter: str) -> dict[str, list[str]]:
    """A header line, then rows; quotes as in RFC 4180, so that one left open does not swallow the rows after it."""
    reader = csv.reader(io.StringIO(read_text(file), newline=""), delimiter=delimiter, strict=True)
    rows = _numbered(file, reader)
    _, header = next(rows, (0, []))
    return _transpose(file, header, (found for found in rows if found[1]))


def _numbered(file: Path, reader: Any) -> Iterator[tuple[int, list[str]]]:
    """Rows with the line that each ends on."""
    while True:
        first = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise TlxError(
                f"{file}: the row that begins on line {first} cannot be read ({error}); a field that begins with a"
                " quote ends with one, and a quote inside it stands twice."
            ) from None
        yield reader.line_num, row


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
    for number, line in enumerate(io.StringIO(read_text(file), newline=None), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise TlxError(f"{file}, line {number} is not JSON: {error.msg}.") from None
        if not isinstance(row, dict) or not row:
            raise TlxError(
                f'{file}, line {number} is {line.strip()[:40]!r}; expected an object such as {{"text": "…"}}.'
            )
        if columns and row.keys() != columns.keys():
            raise TlxError(
                f"{file}, line {number} is no object with the keys of the first line, {listed(columns)};"
                f" its keys are {listed(row)}."
            )
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    return columns


READERS = {
    "csv": lambda file: _delimited(file, ","),
    "tsv": lambda file: _delimited(file, "\t"),
    "jsonl": _jsonl,
    "conll": read_conll,
}
SETS = {"builtin": _builtin, "tfds": read_tfds}
