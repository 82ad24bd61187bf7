"""CoNLL files: a word and its tag a line, a blank line between sentences."""

from pathlib import Path

from tlx.errors import TlxError


def read(file: Path) -> dict[str, list[list[str]]]:
    """Columns `tokens` and `tags`, one list a sentence.

    Columns are separated by tabs, or by spaces in a file without tabs; the first is the word, the last the tag.
    `-DOCSTART-` lines are skipped. A word may be anything, `#` too, so there are no comments.
    """
    tokens: list[list[str]] = [[]]
    tags: list[list[str]] = [[]]
    with file.open(encoding="utf-8-sig", newline=None) as lines:
        for number, line in enumerate(lines, 1):
            line = line.rstrip("\r\n")
            if not line.strip():
                if tokens[-1]:
                    tokens.append([])
                    tags.append([])
                continue
            if line.startswith("-DOCSTART-"):
                continue
            fields = [field.strip() for field in line.split("\t")] if "\t" in line else line.split()
            if len(fields) < 2 or not fields[0] or not fields[-1]:
                raise TlxError(f"{file}, line {number}: {line.strip()!r} is no word and its tag.")
            tokens[-1].append(fields[0])
            tags[-1].append(fields[-1])
    if not tokens[-1]:
        tokens.pop()
        tags.pop()
    return {"tokens": tokens, "tags": tags} if tokens else {}
