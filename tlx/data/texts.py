"""The rules by which the values of a column become texts, or lists of words.

A text is a string with at least one character that is not a space. Other values (numbers, booleans, lists, objects)
are an error, because there are several ways to write them as text.
"""

from typing import Any

import numpy as np

from tlx.data.sources import Table
from tlx.errors import TlxError


def text_column(table: Table, column: str) -> list[str]:
    """Returns the texts of a column.

    Raises:
      TlxError: as for `check_text`.
    """
    return [check_text(value, table.place(row), column) for row, value in enumerate(table.column(column))]


def check_text(value: Any, place: str, column: str) -> str:
    """Checks one value of a column of texts and returns it.

    Args:
      value: the value.
      place: the file and the row, for messages.
      column: the column's name, for messages.

    Raises:
      TlxError: the value is missing, empty or not a string, or holds half of a surrogate pair.
    """
    if (
        value is None
        or (isinstance(value, (float, np.floating)) and value != value)
        or (isinstance(value, str) and not value.strip())
    ):
        raise TlxError(f"{place}: the text in {column!r} is empty; drop the row or fill it.")
    if not isinstance(value, str):
        raise TlxError(f"{place}: the text in {column!r} is {value!r:.80}; a text is a string, so put it in quotes.")
    if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise TlxError(f"{place}: the text in {column!r} holds half of a surrogate pair (\\ud800 to \\udfff), no text.")
    return value


def word_column(table: Table, column: str) -> list[list[str]]:
    """Returns the words of each row.

    Raises:
      TlxError: as for `check_words`.
    """
    return [check_words(value, table.place(row), column) for row, value in enumerate(table.column(column))]


def check_words(value: Any, place: str, column: str) -> list[str]:
    """Checks one value of a column of word lists and returns it.

    Args:
      value: the value.
      place: the file and the row, for messages.
      column: the column's name, for messages.

    Raises:
      TlxError: the value is not a list of words or is an empty list; a word is blank or not a text (see `check_text`).
    """
    for position, word in enumerate(check_list(value, place, column, "words"), 1):
        if word is None or (isinstance(word, str) and not word.strip()):
            raise TlxError(f"{place}: word {position} in {column!r} is empty; drop it with its tag.")
        if not isinstance(word, str):
            raise TlxError(f"{place}: the list in {column!r} holds more than words: {value!r:.80}.")
        check_text(word, place, column)
    if not value:
        raise TlxError(f"{place}: the sentence in {column!r} has no words; drop the row.")
    return list(value)


def check_list(value: Any, place: str, column: str, what: str) -> list[Any]:
    """Checks that one value of a column of word or tag lists is a list, and returns it.

    Args:
      value: the value.
      place: the file and the row, for messages.
      column: the column's name, for messages.
      what: the elements of the list, `words` or `tags`, for messages.

    Raises:
      TlxError: the value is not a list.
    """
    if not isinstance(value, list):
        raise TlxError(
            f"{place}: {column!r} is {str(value)[:40]!r}; expected a list of {what}, as conll: files and lists in"
            " jsonl: files give."
        )
    return value
