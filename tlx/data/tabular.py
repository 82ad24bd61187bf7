"""Files of rows read whole into columns: CSV, TSV and JSON lines."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tlx.data.textfile import read_text
from tlx.errors import TlxError, listed


def read_delimited(file: Path, delimiter: str) -> dict[str, list[str]]:
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


def read_jsonl(file: Path) -> dict[str, list[Any]]:
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
