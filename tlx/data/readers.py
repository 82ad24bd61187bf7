"""The formats of rows: one table from a format's name to its reader, which training and `tlx predict` share.

A format is a suffix of files, `KIND` in a data spec `KIND:PATH`, and `--input FILE.KIND`.
"""

import dataclasses
import functools
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

from tlx.data.conll import conll_rows
from tlx.data.npz import read_npz
from tlx.data.tabular import Rows, collect, delimited_rows, jsonl_rows
from tlx.data.textfile import file_lines, lines, pieces
from tlx.errors import TlxError


class Reader(Protocol):
    """Reads one format, in two ways that give the same rows."""

    def columns(self, file: Path) -> dict[str, Any]:
        """All rows as columns of equal length, lists or arrays; what training takes."""

    def rows(self, where: str) -> Rows:
        """`(place, row)` after `(place, row)` of a file, or of standard input (`-`); what `tlx predict` takes."""


@dataclasses.dataclass(frozen=True)
class Text:
    """A format of text in UTF-8.

    Attributes:
      parse: `(name, lines) -> (place, row) after (place, row)`. `name` is the file's, for messages; each line has its
        end. A row is a dict by column; a place is for messages too, such as "a.csv, line 3".
    """

    parse: Callable[[str, Iterable[str]], Rows]

    def columns(self, file: Path) -> dict[str, list[Any]]:
        return collect(self.parse(str(file), file_lines(file)))

    def rows(self, where: str) -> Rows:
        if where == "-":
            return self.parse("standard input", lines("standard input", pieces(sys.stdin.buffer)))
        return self.parse(where, file_lines(Path(where)))


@dataclasses.dataclass(frozen=True)
class Archive:
    """A format that holds whole columns, as lists or arrays, and is read at once.

    Attributes:
      columns: of a file.
    """

    columns: Callable[[Path], dict[str, Any]]

    def rows(self, where: str) -> Rows:
        if where == "-":
            raise TlxError("an archive is read from a file, not from standard input.")
        found = {
            name: column if isinstance(column, list) else column.tolist()
            for name, column in self.columns(Path(where)).items()
        }
        for row, values in enumerate(zip(*found.values(), strict=True), 1):
            yield f"{where}, row {row}", dict(zip(found, values, strict=True))


READERS: dict[str, Reader] = {
    "csv": Text(functools.partial(delimited_rows, delimiter=",")),
    "tsv": Text(functools.partial(delimited_rows, delimiter="\t")),
    "jsonl": Text(jsonl_rows),
    "conll": Text(conll_rows),
    "npz": Archive(read_npz),
}
