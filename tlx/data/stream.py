"""Rows written one at a time, so that a file of any length passes through; `tlx.data.readers` reads them."""

import contextlib
import csv
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, Protocol

from tlx.data.tabular import Row
from tlx.errors import TlxError, listed
from tlx.files.atomic import atomic_write

FORMATS = ("jsonl", "csv")  # that are written


class Write(Protocol):
    """Writes one row. The first one's keys are the header of a CSV. place: of the row, for messages."""

    def __call__(self, row: Row, place: str) -> None: ...


def format_of(where: str, given: str | None, known: Iterable[str] = FORMATS) -> str:
    """What a file's suffix says, or else `given`. known: the formats that are possible."""
    suffix = Path(where).suffix.lstrip(".").lower()
    format_ = suffix if suffix in known else given or suffix
    if format_ not in known:
        how = "name it with --format" if where == "-" else "give the file that suffix, or --format"
        raise TlxError(f"{where}: the format {format_!r} is none of {listed(known)}; {how}.")
    return format_


@contextlib.contextmanager
def writing(where: str, format_: str) -> Iterator[Write]:
    """Where rows go: a file, there only once it is whole, or standard output (`-`), row by row."""
    if where == "-":
        yield _writer(sys.stdout, format_)
        return
    with atomic_write(where) as opened:
        yield _writer(opened, format_)


def _writer(to: IO[str], format_: str) -> Write:
    if format_ == "jsonl":

        def write_json(row: Row, place: str) -> None:
            del place
            to.write(json.dumps(row, ensure_ascii=False) + "\n")
            to.flush()

        return write_json
    columns: list[str] = []
    writer = csv.writer(to, lineterminator="\n")
    quoting = csv.writer(to, lineterminator="\n", quoting=csv.QUOTE_ALL)

    def write_csv(row: Row, place: str) -> None:
        if not columns:
            columns.extend(row)
            writer.writerow(columns)
        if row.keys() != set(columns):
            odd = listed(sorted(row.keys() ^ set(columns)))
            raise TlxError(f"{place}: a CSV has the same columns in every row; {odd} is not in all (write JSON lines).")
        cells = [_cell(row[name]) for name in columns]
        # Python before 3.13 leaves a carriage return without quotes, and so makes two rows of one.
        (quoting if any("\r" in cell for cell in cells if isinstance(cell, str)) else writer).writerow(cells)
        to.flush()

    return write_csv


def _cell(value: Any) -> Any:
    """A list as its items between `|`, None as an empty one, an object as JSON."""
    if isinstance(value, list):
        return "|".join("" if item is None else str(_cell(item)) for item in value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value
