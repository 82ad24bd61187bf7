"""Files of rows, CSV, TSV and JSON lines, read one row at a time: for training and for `tlx predict` alike."""

import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from tlx.data.textfile import MOST
from tlx.errors import TlxError, listed

Row = dict[str, Any]
Rows = Iterator[tuple[str, Row]]  # `(place, row)`; place: for messages, such as "a.csv, line 3"


def delimited_rows(name: str, lines: Iterable[str], delimiter: str) -> Rows:
    """A header line, then rows; quotes as in RFC 4180, so that one left open does not swallow the rows after it.
    Blank lines are no rows.

    Raises:
      TlxError: quotes that do not fit, a row with more or fewer fields than the header, a name twice in the header.
    """
    # The limit is the csv module's, for the whole process; the longest line bounds a field too.
    csv.field_size_limit(max(csv.field_size_limit(), MOST))
    rows = ((line, row) for line, row in _numbered(name, lines, delimiter) if row)
    _, header = next(rows, (0, []))
    if len(set(header)) < len(header):
        raise TlxError(f"{name}: two columns have the same name in its header {listed(header)}.")
    for line, row in rows:
        if len(row) != len(header):
            raise TlxError(f"{name}, line {line}: {len(row)} fields where the header has {len(header)}.")
        yield f"{name}, line {line}", dict(zip(header, row, strict=True))


def _numbered(name: str, lines: Iterable[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Rows with the line that each ends on."""
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        first = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise TlxError(
                f"{name}: the row that begins on line {first} cannot be read ({error}); a field that begins with a"
                " quote ends with one, and a quote inside it is doubled."
            ) from None
        yield reader.line_num, row


def jsonl_rows(name: str, lines: Iterable[str]) -> Rows:
    """One JSON object a line; blank lines are no rows.

    Raises:
      TlxError: a line that is no JSON object or an empty one, that names a key twice, that holds half of a surrogate
        pair, a number of thousands of digits, or is nested too deeply.
    """
    for number, line in enumerate(lines, 1):
        if line.strip():
            place = f"{name}, line {number}"
            yield place, _object(place, line)


def _object(place: str, line: str) -> Row:
    def unique(pairs: list[tuple[str, Any]]) -> Row:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
            raise TlxError(f"{place}: an object has {twice!r:.80} twice; its keys must be unique.")
        return found

    try:
        row = json.loads(line, object_pairs_hook=unique)
        if "\\ud" in line.lower():
            json.dumps(row, ensure_ascii=False).encode()
    except TlxError:
        raise
    except RecursionError:
        raise TlxError(f"{place} is nested too deeply.") from None
    except UnicodeEncodeError:
        raise TlxError(f"{place} holds half of a surrogate pair (\\ud800 to \\udfff), no text.") from None
    except ValueError as error:  # a JSONDecodeError, or a number of thousands of digits
        reason = getattr(error, "msg", "a number has too many digits")
        raise TlxError(f"{place} is not JSON: {reason}.") from None
    if not isinstance(row, dict) or not row:
        raise TlxError(f'{place} is {line.strip()[:40]!r}; expected an object such as {{"text": "…"}}.')
    return row


def collect(rows: Rows) -> dict[str, list[Any]]:
    """The columns of rows that all have the same keys; none of no rows.

    Raises:
      TlxError: a row with other keys than the first.
    """
    columns: dict[str, list[Any]] = {}
    for place, row in rows:
        if columns and row.keys() != columns.keys():
            raise TlxError(
                f"{place} is no object with the keys of the first line, {listed(columns)}; its keys are {listed(row)}."
            )
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    return columns
