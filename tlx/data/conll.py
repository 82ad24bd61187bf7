"""Reads CoNLL files: each line has a token and its tag, and a blank line separates sentences.

This is the format of the shared tasks on chunking and named entities (Tjong Kim Sang & De Meulder 2003). The first
column is the token and the last one its tag; the columns between them are ignored.
"""

import re
from collections.abc import Iterable

from tlx.data.tabular import Rows
from tlx.errors import TlxError


def conll_rows(name: str, lines: Iterable[str]) -> Rows:
    """Yields a row for each sentence: `tokens` and `tags`, lists of strings.

    A line with a TAB is split at its TABs, any other line at its spaces. Lines that begin with `-DOCSTART-` are
    skipped. There are no comments: `#` is a token.

    Args:
      name: the name of the file, for messages.
      lines: the lines of the file.

    Raises:
      TlxError: a token has no tag, a tag has no token, or lines differ in their number of columns.
    """
    tokens: list[str] = []
    tags: list[str] = []
    place, width = "", 0
    for number, line in enumerate(lines, 1):
        line = line.rstrip(" \t\r\n")
        if not line or line.startswith("-DOCSTART-"):
            if tokens:
                yield place, {"tokens": tokens, "tags": tags}
                tokens, tags = [], []
            continue
        columns = _columns(name, number, line)
        width = width or len(columns)
        if len(columns) != width:
            raise TlxError(f"{name}, line {number}: {len(columns)} columns where the lines before have {width}.")
        place = place if tokens else f"{name}, line {number}"
        tokens.append(columns[0])
        tags.append(columns[-1])
    if tokens:
        yield place, {"tokens": tokens, "tags": tags}


def _columns(name: str, number: int, line: str) -> list[str]:
    """Returns the columns of a line, at least a token and its tag."""
    columns = line.split("\t") if "\t" in line else re.split(" +", line)
    if len(columns) < 2:
        raise TlxError(
            f"{name}, line {number}: a token without a tag, {line!r}; expected a token and its tag"
            " with a TAB or spaces between them."
        )
    if not columns[0].strip():
        raise TlxError(f"{name}, line {number}: a tag without a token, {line!r}; expected the token first.")
    return columns
