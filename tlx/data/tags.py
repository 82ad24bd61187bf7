"""Sentences as lists of words, and a tag for each word as a number; what does not fit is named with its row."""

from collections.abc import Sequence

import numpy as np

from tlx.data.sources import Table
from tlx.errors import TlxError, listed

OUTSIDE = "O"  # the tag of a word that belongs to nothing (Ramshaw & Marcus 1995)


def token_lists(table: Table, column: str) -> list[list[str]]:
    """The words of each row, at least one and none of them blank."""
    found = _lists(table, column, "words")
    for row, words in enumerate(found):
        if not words:
            raise TlxError(f"{table.name}, row {row + 1}: the sentence in {column!r} has no words; drop the row.")
        for position, word in enumerate(words, 1):
            if not word.strip():
                raise TlxError(
                    f"{table.name}, row {row + 1}: word {position} in {column!r} is empty; drop it with its tag."
                )
    return found


def tag_names(table: Table, column: str) -> tuple[str, ...]:
    """The distinct tags in the alphabet's order, `O` before them where it occurs."""
    names = {name for tags in _lists(table, column, "tags") for name in tags}
    return tuple(sorted(names, key=lambda name: (name != OUTSIDE, name)))


def tag_indices(table: Table, tokens: str, tags: str, names: Sequence[str]) -> list[np.ndarray]:
    """int32 (words,) for each row: the position of each word's tag in `names`.

    Args:
      tokens, tags: the columns of words and of tags, as many tags as words in each row.
      names: the tags in order, as `tag_names` found them in the training set.
    """
    positions = {name: i for i, name in enumerate(names)}
    found = []
    for row, (words, given) in enumerate(
        zip(_lists(table, tokens, "words"), _lists(table, tags, "tags"), strict=True), 1
    ):
        if len(words) != len(given):
            raise TlxError(
                f"{table.name}, row {row}: {len(given)} tags in {tags!r} for {len(words)} words in {tokens!r};"
                " expected one for each."
            )
        for name in given:
            if name not in positions:
                raise TlxError(
                    f"{table.name}, row {row}: the tag {name!r} is none of the training set's {listed(names)}."
                )
        found.append(np.array([positions[name] for name in given], np.int32))
    return found


def _lists(table: Table, column: str, what: str) -> list[list[str]]:
    """A column that holds a list in every row, its elements as strings."""
    for row, value in enumerate(table.column(column), 1):
        if not isinstance(value, list):
            raise TlxError(
                f"{table.name}, row {row}: {column!r} is {str(value)[:40]!r}; expected a list of {what}, as conll:"
                " files and lists in jsonl: files give."
            )
        if any(element is None or isinstance(element, (list, dict)) for element in value):
            raise TlxError(
                f"{table.name}, row {row}: the list in {column!r} holds more than {what}: {str(value)[:80]}."
            )
    return [[str(element) for element in value] for value in table.column(column)]
