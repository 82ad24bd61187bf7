"""The readers of row formats by name, which training and `tlx predict` share.

The name of a format is the `KIND` of a data spec `KIND:PATH` and the suffix of the file in `--input FILE.KIND`.
"""

import dataclasses
import functools
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

from tlx.data.conll import conll_rows
from tlx.data.npz import read_npz
from tlx.data.squad import KIND, MOST, squad_rows
from tlx.data.tabular import Rows, collect, delimited_rows, jsonl_rows
from tlx.data.textfile import file_lines, lines, pieces
from tlx.errors import TlxError
from tlx.files.strict_json import parse, read_json


class Reader(Protocol):
    """Reads files of one format, as columns or as rows. Both give the same data."""

    def columns(self, file: Path) -> dict[str, Any]:
        """Returns all rows as columns of equal length, lists or arrays, for training."""

    def rows(self, where: str) -> Rows:
        """Yields `(place, row)` for each row of a file, or of standard input (`-`), for `tlx predict`."""


@dataclasses.dataclass(frozen=True)
class Text:
    """A text format in UTF-8.

    Attributes:
      parse: a generator function `(name, lines)` that yields `(place, row)`. `name` is the name of the file, for
        messages. `lines` are its lines with their line ends. A row is a dict from column to value; its place is for
        messages, such as "a.csv, line 3".
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
    """A format that stores columns. A file is read at once.

    Attributes:
      columns: a function that returns the columns of a file, lists or arrays, by name.
    """

    columns: Callable[[Path], dict[str, Any]]

    def rows(self, where: str) -> Rows:
        if where == "-":
            raise TlxError("an archive is read from a file, not from standard input.")
        columns = {
            name: column if isinstance(column, list) else column.tolist()
            for name, column in self.columns(Path(where)).items()
        }
        for row, values in enumerate(zip(*columns.values(), strict=True), 1):
            yield f"{where}, row {row}", dict(zip(columns, values, strict=True))


@dataclasses.dataclass(frozen=True)
class Document:
    """A format that is one JSON object. A file is read at once.

    Attributes:
      parse: a generator function `(name, object)` that yields `(place, row)` as that of `Text` does.
    """

    parse: Callable[[str, dict[str, Any]], Rows]

    def columns(self, file: Path) -> dict[str, list[Any]]:
        return collect(self.rows(str(file)))

    def rows(self, where: str) -> Rows:
        if where == "-":
            name = "standard input"
            return self.parse(name, parse(sys.stdin.buffer.read(MOST + 1), name, KIND, MOST))
        return self.parse(where, read_json(where, KIND, MOST))


READERS: dict[str, Reader] = {
    "csv": Text(functools.partial(delimited_rows, delimiter=",")),
    "tsv": Text(functools.partial(delimited_rows, delimiter="\t")),
    "jsonl": Text(jsonl_rows),
    "conll": Text(conll_rows),
    "npz": Archive(read_npz),
    "squad": Document(squad_rows),
}
