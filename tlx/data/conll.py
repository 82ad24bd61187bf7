"""CoNLL files: a token and its tag a line, a blank line between sentences.

The form of the shared tasks on chunks and named entities (Tjong Kim Sang & De Meulder 2003): the first column is the
token, the last its tag, what stands between them is not read.
"""

import io
import re
from pathlib import Path

from tlx.data.textfile import read_text
from tlx.errors import TlxError


def read_conll(file: Path) -> dict[str, list[list[str]]]:
    """The columns `tokens` and `tags`, a list of strings for each sentence.

    A line that holds a TAB is cut at its TABs, any other at its spaces. Lines that begin with `-DOCSTART-` are left
    out. No line is a comment: `#` is a token like others.

    Raises:
      TlxError: a token without a tag, a tag without a token, lines of unlike width, a file that is not UTF-8.
    """
    tokens: list[list[str]] = []
    tags: list[list[str]] = []
    inside, width = False, 0
    for number, line in enumerate(io.StringIO(read_text(file), newline=None), 1):
        line = line.rstrip(" \t\n")
        if not line or line.startswith("-DOCSTART-"):
            inside = False
            continue
        columns = _columns(file, number, line)
        width = width or len(columns)
        if len(columns) != width:
            raise TlxError(f"{file}, line {number}: {len(columns)} columns where the lines before have {width}.")
        if not inside:
            tokens.append([])
            tags.append([])
            inside = True
        tokens[-1].append(columns[0])
        tags[-1].append(columns[-1])
    return {"tokens": tokens, "tags": tags}


def _columns(file: Path, number: int, line: str) -> list[str]:
    """A line's columns: at least a token and its tag."""
    columns = line.split("\t") if "\t" in line else re.split(" +", line)
    if len(columns) < 2:
        raise TlxError(
            f"{file}, line {number}: a token without a tag, {line!r}; expected a token and its tag"
            " with a TAB or spaces between them."
        )
    if not columns[0].strip():
        raise TlxError(f"{file}, line {number}: a tag without a token, {line!r}; expected the token first.")
    return columns
