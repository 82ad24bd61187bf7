"""The tags of words: each row of a tagging table has a list of words and a list of as many tags."""

from collections.abc import Sequence

import numpy as np

from tlx.data.labels import NO_LABEL, check_label, classes
from tlx.data.sources import Table
from tlx.data.texts import check_list
from tlx.errors import TlxError, listed

OUTSIDE = "O"  # the tag of a word outside of all entities (Ramshaw & Marcus 1995)


def tag_column(table: Table, column: str) -> list[list[str]]:
    """Returns the names of the tags of each row, `NO_LABEL` for a word without a tag.

    Raises:
      TlxError: a value is not a list of tags, or no word has a tag.
    """
    tags_by_row = []
    for row, value in enumerate(table.column(column)):
        place = table.place(row)
        values = check_list(value, place, column, "tags")
        if any(tag is None or isinstance(tag, (list, dict)) for tag in values):
            raise TlxError(f"{place}: the list in {column!r} holds more than tags: {value!r:.80}.")
        tags_by_row.append(
            [check_label(tag, place, f"tag {number} in {column!r}") for number, tag in enumerate(values, 1)]
        )
    if tags_by_row and all(name == NO_LABEL for row in tags_by_row for name in row):
        raise TlxError(f"{table.name}: no word has a tag; all in {column!r} are {NO_LABEL}.")
    return tags_by_row


def tag_names(table: Table, column: str) -> tuple[str, ...]:
    """Returns the distinct tags in alphabetical order, preceded by `O` if it occurs."""
    all_tags = (name for row in tag_column(table, column) for name in row if name != NO_LABEL)
    distinct = classes(all_tags, f"{table.name}: the tags in {column!r}")
    return tuple(sorted(distinct, key=lambda name: (name != OUTSIDE, name)))


def tag_indices(table: Table, tokens: str, column: str, known: Sequence[str]) -> list[np.ndarray]:
    """Returns the class index of each word's tag, int32 (words,) for each row; -1 for a word without a tag (-100).

    Args:
      table: the table.
      tokens: the column of the words.
      column: the column of the tags; each row has as many tags as words.
      known: the tags of the training set in order, as `tag_names` returns them.

    Raises:
      TlxError: the numbers of words and tags differ, or a tag is not in `known`.
    """
    positions = {NO_LABEL: -1, **{name: i for i, name in enumerate(known)}}
    indices = []
    for row, (value, row_tags) in enumerate(zip(table.column(tokens), tag_column(table, column), strict=True)):
        words = check_list(value, table.place(row), tokens, "words")
        if any(isinstance(word, (list, dict)) for word in words):
            raise TlxError(f"{table.place(row)}: the list in {tokens!r} holds more than words: {value!r:.80}.")
        if len(words) != len(row_tags):
            raise TlxError(
                f"{table.place(row)}: {len(row_tags)} tags in {column!r} for {len(words)} words in {tokens!r};"
                " expected one for each."
            )
        for name in row_tags:
            if name not in positions:
                place = table.place(row)
                raise TlxError(f"{place}: the tag {name!r} is not one of the training set's {listed(known)}.")
        indices.append(np.array([positions[name] for name in row_tags], np.int32))
    return indices
