"""Writes rows one at a time, so that the output may be of any length. `tlx.data.readers` reads rows."""

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

FORMATS = ("jsonl", "csv")  # formats of output


class Write(Protocol):
    """Writes one row; the keys of the first row are the header of a CSV. `place` names the row in messages."""

    def __call__(self, row: Row, place: str) -> None: ...


def format_of(where: str, option: str | None, known: Iterable[str] = FORMATS) -> str:
    """Returns the format of a file: that of its suffix, otherwise that of the option `--format`.

    Args:
      where: the file, or `-` for standard input or output.
      option: the value of `--format`, if it was used.
      known: the possible formats.

    Raises:
      TlxError: the format is unknown.
    """
    suffix = Path(where).suffix.lstrip(".").lower()
    format_ = suffix if suffix in known else option or suffix
    if format_ not in known:
        how = "name it with --format" if where == "-" else "give the file that suffix, or --format"
        raise TlxError(f"{where}: the format {format_!r} is not one of {listed(known)}; {how}.")
    return format_


@contextlib.contextmanager
def writing(where: str, format_: str) -> Iterator[Write]:
    """Opens a file, which appears only when it is complete, or standard output (`-`), for writing rows."""
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

    return write_csv


def _cell(value: Any) -> Any:
    """Returns a CSV cell: a list as its items joined by `|`, None as an empty cell, a dict as JSON."""
    if isinstance(value, list):
        return "|".join("" if item is None else str(_cell(item)) for item in value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value
