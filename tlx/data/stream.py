"""Rows read and written one at a time, so that a file of any length passes through: JSON lines and CSV."""

import contextlib
import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Protocol

from tlx.errors import TlxError, listed

FORMATS = ("jsonl", "csv")
Row = dict[str, Any]


class Write(Protocol):
    """Writes one row. The first one's keys are the header of a CSV."""

    def __call__(self, row: Row) -> None: ...


def format_of(where: str, given: str | None) -> str:
    """What a file's suffix says, or else `given`."""
    suffix = Path(where).suffix.lstrip(".")
    format_ = suffix if suffix in FORMATS else given or suffix
    if format_ not in FORMATS:
        how = "name it with --format" if where == "-" else "give the file that suffix, or --format"
        raise TlxError(f"{where}: the format {format_!r} is none of {listed(FORMATS)}; {how}.")
    return format_


def read_rows(where: str, format_: str) -> Iterator[tuple[str, Row]]:
    """`(place, row)` after `(place, row)` of a file, or of standard input (`-`). place: for messages."""
    if where != "-" and not Path(where).is_file():
        raise TlxError(f"there is no file {where}.")
    with contextlib.ExitStack() as stack:
        lines = sys.stdin if where == "-" else stack.enter_context(Path(where).open(encoding="utf-8-sig", newline=""))
        try:
            yield from (_csv if format_ == "csv" else _jsonl)("standard input" if where == "-" else where, lines)
        except UnicodeDecodeError as error:
            raise TlxError(f"{where} is not UTF-8 ({error.reason}); convert it, e.g. with iconv.") from None


def _csv(name: str, lines: IO[str]) -> Iterator[tuple[str, Row]]:
    reader = csv.reader(lines)
    try:
        header = next(reader, [])
        for fields in filter(None, reader):
            if len(fields) != len(header):
                raise TlxError(
                    f"{name}, line {reader.line_num}: {len(fields)} fields where the header has {len(header)}."
                )
            yield f"{name}, line {reader.line_num}", dict(zip(header, fields, strict=True))
    except csv.Error as error:
        raise TlxError(f"{name}, line {reader.line_num}: {error}.") from None


def _jsonl(name: str, lines: IO[str]) -> Iterator[tuple[str, Row]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise TlxError(f"{name}, line {number} is not JSON: {error.msg}.") from None
        if not isinstance(row, dict):
            raise TlxError(f"{name}, line {number} is no JSON object.")
        yield f"{name}, line {number}", row


@contextlib.contextmanager
def writing(where: str, format_: str) -> Iterator[Write]:
    """Where rows go: a file, there only once it is whole, or standard output (`-`), row by row."""
    if where == "-":
        yield _writer(sys.stdout, format_)
        return
    file = Path(where)
    partial = file.with_name(f".{file.name}.partial")
    try:
        with partial.open("w", encoding="utf-8", newline="") as lines:
            yield _writer(lines, format_)
        partial.replace(file)
    except OSError as error:
        raise TlxError(f"{where} cannot be written: {error.strerror}.") from None
    finally:
        partial.unlink(missing_ok=True)


def _writer(lines: IO[str], format_: str) -> Write:
    if format_ == "jsonl":

        def write_json(row: Row) -> None:
            lines.write(json.dumps(row, ensure_ascii=False) + "\n")
            lines.flush()

        return write_json
    columns: list[str] = []
    writer = csv.writer(lines, lineterminator="\n")

    def write_csv(row: Row) -> None:
        if not columns:
            columns.extend(row)
            writer.writerow(columns)
        writer.writerow(["|".join(map(str, v)) if isinstance(v := row[name], list) else v for name in columns])
        lines.flush()

    return write_csv
