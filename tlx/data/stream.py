"""Rows read and written one at a time, so that a file of any length passes through: JSON lines and CSV."""

import contextlib
import csv
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, Protocol

from tlx.errors import TlxError, listed
from tlx.files.whole import whole

FORMATS = ("jsonl", "csv")
Row = dict[str, Any]


class Write(Protocol):
    """Writes one row. The first one's keys are the header of a CSV. place: of the row, for messages."""

    def __call__(self, row: Row, place: str) -> None: ...


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
    name = "standard input" if where == "-" else where
    with contextlib.ExitStack() as stack:
        lines = sys.stdin.buffer if where == "-" else stack.enter_context(Path(where).open("rb"))
        yield from (_csv if format_ == "csv" else _jsonl)(name, _decoded(name, lines))


def _decoded(name: str, lines: Iterable[bytes]) -> Iterator[str]:
    """Line by line, whatever the terminal's encoding; without a byte order mark."""
    for number, line in enumerate(lines, 1):
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise TlxError(
                f"{name}, line {number} is not UTF-8 ({error.reason}); convert it, e.g. with iconv."
            ) from None
        yield text.removeprefix("\ufeff") if number == 1 else text


def _csv(name: str, lines: Iterable[str]) -> Iterator[tuple[str, Row]]:
    reader = csv.reader(lines)
    try:
        header = next(reader, [])
        if len(set(header)) < len(header):
            raise TlxError(f"{name}: two columns have the same name in its header {listed(header)}.")
        for fields in filter(None, reader):
            if len(fields) != len(header):
                raise TlxError(
                    f"{name}, line {reader.line_num}: {len(fields)} fields where the header has {len(header)}."
                )
            yield f"{name}, line {reader.line_num}", dict(zip(header, fields, strict=True))
    except csv.Error as error:
        raise TlxError(f"{name}, line {reader.line_num}: {error}.") from None


def _jsonl(name: str, lines: Iterable[str]) -> Iterator[tuple[str, Row]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            if "\\ud" in line.lower():
                json.dumps(row, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise TlxError(
                f"{name}, line {number} holds half of a surrogate pair (\\ud800 to \\udfff), no text."
            ) from None
        except ValueError as error:  # a JSONDecodeError, or a number of thousands of digits
            raise TlxError(f"{name}, line {number} is not JSON: {getattr(error, 'msg', error)}.") from None
        if not isinstance(row, dict):
            raise TlxError(f"{name}, line {number} is no JSON object.")
        yield f"{name}, line {number}", row


@contextlib.contextmanager
def writing(where: str, format_: str) -> Iterator[Write]:
    """Where rows go: a file, there only once it is whole, or standard output (`-`), row by row."""
    if where == "-":
        yield _writer(sys.stdout, format_)
        return
    with whole(where) as lines:
        yield _writer(lines, format_)


def _writer(lines: IO[str], format_: str) -> Write:
    if format_ == "jsonl":

        def write_json(row: Row, place: str) -> None:
            del place
            lines.write(json.dumps(row, ensure_ascii=False) + "\n")
            lines.flush()

        return write_json
    columns: list[str] = []
    writer = csv.writer(lines, lineterminator="\n")

    def write_csv(row: Row, place: str) -> None:
        if not columns:
            columns.extend(row)
            writer.writerow(columns)
        if row.keys() != set(columns):
            odd = listed(sorted(row.keys() ^ set(columns)))
            raise TlxError(f"{place}: a CSV has the same columns in every row; {odd} is not in all (write JSON lines).")
        writer.writerow([_cell(row[name]) for name in columns])
        lines.flush()

    return write_csv


def _cell(value: Any) -> Any:
    """A list as its items between `|`, an object as JSON."""
    if isinstance(value, list):
        return "|".join(str(_cell(item)) for item in value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value
