"""The rules by which the values of a column become labels or texts.

Labels. None, NaN and strings of spaces are missing labels, which are an error. The label -100, by the convention of
Hugging Face's datasets, means that there is no label: such a row is left out of a classification set, and such a word
is left out of loss and metrics. Spaces around a label are stripped. A number that is whole is written as an integer, so
that 1, 1.0 and "1" are one class. True and False are classes with these names. It is an error if two different labels
are the same value (`True` and `1`, `1.0` and `1` as strings, one string in two Unicode normal forms). Lists and
objects are not labels.

Texts. A text is a string with at least one character that is not a space. Other values (numbers, booleans, lists,
objects) are an error, because there are several ways to write them as text.
"""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from tlx.data.sources import Table
from tlx.errors import TlxError, listed

OUTSIDE = "O"  # the tag of a word outside of all entities (Ramshaw & Marcus 1995)
NO_LABEL = "-100"


def name_of(value: Any) -> str:
    """Returns the name of a label; empty if the label is missing.

    Raises:
      ValueError: the value cannot be a label: a list, an object or infinity.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, float) and math.isfinite(value):
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, int):  # True and False too
        return str(value)
    raise ValueError


def classes(column: Iterable[Any], where: str = "the labels") -> tuple[str, ...]:
    """Returns the distinct labels, sorted as numbers if all are whole numbers, else as strings.

    Args:
      column: the labels.
      where: the name of the column, for messages.

    Raises:
      TlxError: two labels are one value written in two ways.
    """
    counts = Counter(name_of(label) for label in column)
    _refuse_equal_values(counts, where)
    if all(re.fullmatch(r"-?[0-9]{1,1000}", name) for name in counts):
        return tuple(sorted(counts, key=lambda name: (int(name), name)))
    return tuple(sorted(counts))


def _refuse_equal_values(counts: Counter[str], where: str) -> None:
    first: dict[str, str] = {}
    for name in sorted(counts):
        if (other := first.setdefault(_value(name), name)) != name:
            raise TlxError(
                f"{where}: {other!r} ({counts[other]} times) and {name!r} ({counts[name]} times) are one value written"
                " in two ways; write one of them."
            )


def _value(name: str) -> str:
    """Returns a canonical form, which is equal for names that are the same value."""
    name = unicodedata.normalize("NFC", name)
    if name.lower() in ("true", "false"):
        return "1" if name.lower() == "true" else "0"
    return re.sub(r"\.0+$", "", name) if re.fullmatch(r"-?(0|[1-9][0-9]*)(\.0+)?", name) else name


def names(table: Table, column: str) -> list[str]:
    """Returns the name of each row's label.

    Raises:
      TlxError: a label is missing or is not a string or a number.
    """
    return _names(table, column, "label")


def _names(table: Table, column: str, what: str) -> list[str]:
    values = enumerate(table.column(column))
    return [_named(value, table.place(row), f"the {what} in {column!r}") for row, value in values]


def _named(value: Any, place: str, what: str) -> str:
    try:
        name = name_of(value)
    except ValueError:
        raise TlxError(f"{place}: {what} is {value!r:.80}; expected a string or a number.") from None
    if not name:
        raise TlxError(f"{place}: {what} is missing; drop the row or fill it.")
    return name


def groups(table: Table, column: str) -> list[str]:
    """Returns the name of each row's group; names that are the same value, such as "1" and "1.0", are one group."""
    names_of_rows = _names(table, column, "group")
    first: dict[str, str] = {}
    for name in sorted(set(names_of_rows)):
        first.setdefault(_value(name), name)
    return [first[_value(name)] for name in names_of_rows]


def labelled(table: Table, column: str) -> np.ndarray:
    """Returns the rows whose label is not -100, int64, ascending."""
    return np.array([row for row, value in enumerate(table.column(column)) if not _is_no_label(value)], np.int64)


def _is_no_label(value: Any) -> bool:
    try:
        return name_of(value) == NO_LABEL
    except ValueError:
        return False


def stripped(table: Table, column: str) -> int:
    """Returns how many labels of a column, or elements of its lists, have spaces around them."""
    values = table.columns.get(column, ())
    elements = (element for value in values for element in (value if isinstance(value, list) else [value]))
    return sum(isinstance(value, str) and value != value.strip() for value in elements)


def class_indices(table: Table, column: str, known: Sequence[str]) -> np.ndarray:
    """Returns the class index of each row, int32 (n,).

    Args:
      table: the table.
      column: the column of the labels.
      known: the labels of the training set in order.

    Raises:
      TlxError: a label is missing or is not in `known`.
    """
    positions = {name: i for i, name in enumerate(known)}
    labels = names(table, column)
    for row, label in enumerate(labels):
        if label not in positions:
            raise TlxError(f"{table.place(row)}: the label {label!r} is none of the training set's {listed(known)}.")
    return np.array([positions[label] for label in labels], np.int32)


def targets(table: Table, column: str) -> np.ndarray:
    """Returns the targets of a regression, float32 (n, outputs).

    Args:
      table: the table.
      column: the name of a column, or several names joined by commas.

    Raises:
      TlxError: a target is missing, is not a finite number, or is too large for float32.
    """
    return np.column_stack([_finite(table, name) for name in _split_columns(table, column) or (column,)])


def _finite(table: Table, column: str) -> np.ndarray:
    """float32 (n, …)"""
    exact = _numbers(table, column)
    with np.errstate(over="ignore"):
        values = exact.astype(np.float32)
    if len(bad := np.argwhere(~np.isfinite(values))):
        value, place = exact[tuple(bad[0])], table.place(int(bad[0][0]))
        if np.isfinite(value):
            most = np.finfo(np.float32).max
            raise TlxError(
                f"{place}: the target {value:g} in {column!r} is beyond ±{most:.3g}, float32's largest number."
            )
        raise TlxError(f"{place}: the target in {column!r} is not a finite number.")
    return values


def _numbers(table: Table, column: str) -> np.ndarray:
    """Returns the numbers of a column, float64 (n, …), NaN for a missing value."""
    numbers: list[Any] = []
    for row, value in enumerate(table.column(column)):
        try:
            if isinstance(value, str) and "_" in value:  # "1_000" is a number for Python only
                raise ValueError
            missing = value is None or (isinstance(value, str) and not value)
            numbers.append(np.asarray(np.nan if missing else value, np.float64))
        except (TypeError, ValueError, OverflowError):
            raise TlxError(f"{table.place(row)}: the column {column!r} is not all numbers ({value!r:.80}).") from None
        if numbers[-1].ndim > 1 or numbers[-1].shape != numbers[0].shape:
            raise TlxError(f"{table.place(row)}: the target in {column!r} has another shape than in the first row.")
    return np.array(numbers)


def _split_columns(table: Table, column: str) -> tuple[str, ...]:
    """Returns the column names that `column` joins by commas; none if it is the name of one column."""
    if column in table.columns or "," not in column:
        return ()
    return tuple(name.strip() for name in column.split(","))


def label_names(table: Table, column: str, separator: str = "|") -> tuple[str, ...]:
    """Returns the labels of a multi-label table.

    Args:
      table: the table.
      column: several columns joined by commas, which are then the labels; or one column of lists of names.
      separator: the separator of names in a string.
    """
    where = f"{table.name}: the labels in {column!r}"
    return _split_columns(table, column) or classes(
        (name for row in _sets(table, column, separator) for name in row), where
    )


def multilabel(table: Table, column: str, names: Sequence[str], separator: str = "|") -> np.ndarray:
    """Returns the labels of a multi-label table, int32 (n, labels): 1 if a row has the label, else 0.

    Args:
      table: the table.
      column: several columns of 0 and 1 joined by commas; or one column that holds lists of names, or names joined by
        the separator (an empty string: no label).
      names: the labels of the training set in order, as `label_names` returns them.
      separator: the separator of names in a string.

    Raises:
      TlxError: a label has no name or is not in `names`; a column of 0 and 1 holds another value.
    """
    if columns := _split_columns(table, column):
        return np.column_stack([_zeros_and_ones(table, name) for name in columns])
    positions = {name: i for i, name in enumerate(names)}
    labels = np.zeros((len(table), len(names)), np.int32)
    for row, labels_of_row in enumerate(_sets(table, column, separator)):
        for name in labels_of_row:
            if name not in positions:
                raise TlxError(f"{table.place(row)}: the label {name!r} is none of the training set's {listed(names)}.")
            labels[row, positions[name]] = 1
    return labels


def _sets(table: Table, column: str, separator: str) -> list[list[str]]:
    """Returns the names of the labels of each row."""
    sets = []
    for row, value in enumerate(table.column(column)):
        if isinstance(value, str):
            value = value.split(separator) if value.strip() else []
        if not isinstance(value, list):
            raise TlxError(
                f"{table.place(row)}: the labels in {column!r} are {value!r}; expected a list of names, or"
                f" names joined by {separator!r}."
            )
        try:
            row_names = [name_of(name) for name in value]
        except ValueError:
            row_names = [""]
        if "" in row_names:
            raise TlxError(f"{table.place(row)}: one of the labels in {column!r}, {value!r:.80}, has no name.")
        sets.append(row_names)
    return sets


def _zeros_and_ones(table: Table, column: str) -> np.ndarray:
    """int32 (n,)"""
    values = [str(value).strip() for value in table.column(column)]
    known = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "False": 0, "True": 1}
    for row, value in enumerate(values):
        if value not in known:
            raise TlxError(f"{table.place(row)}: {column!r} is {value!r}; expected 0 or 1.")
    return np.array([known[value] for value in values], np.int32)


def texts(table: Table, column: str) -> list[str]:
    """Returns the texts of a column.

    Raises:
      TlxError: as for `text_of`.
    """
    return [text_of(value, table.place(row), column) for row, value in enumerate(table.column(column))]


def text_of(value: Any, place: str, column: str) -> str:
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


def token_lists(table: Table, column: str) -> list[list[str]]:
    """Returns the words of each row.

    Raises:
      TlxError: as for `words_of`.
    """
    return [words_of(value, table.place(row), column) for row, value in enumerate(table.column(column))]


def words_of(value: Any, place: str, column: str) -> list[str]:
    """Checks one value of a column of word lists and returns it.

    Args:
      value: the value.
      place: the file and the row, for messages.
      column: the column's name, for messages.

    Raises:
      TlxError: the value is not a list of words or is an empty list; a word is blank or not a text (see `text_of`).
    """
    for position, word in enumerate(_list(value, place, column, "words"), 1):
        if word is None or (isinstance(word, str) and not word.strip()):
            raise TlxError(f"{place}: word {position} in {column!r} is empty; drop it with its tag.")
        if not isinstance(word, str):
            raise TlxError(f"{place}: the list in {column!r} holds more than words: {value!r:.80}.")
        text_of(word, place, column)
    if not value:
        raise TlxError(f"{place}: the sentence in {column!r} has no words; drop the row.")
    return list(value)


def _list(value: Any, place: str, column: str, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise TlxError(
            f"{place}: {column!r} is {str(value)[:40]!r}; expected a list of {what}, as conll: files and lists in"
            " jsonl: files give."
        )
    return value


def tags(table: Table, column: str) -> list[list[str]]:
    """Returns the names of the tags of each row, `NO_LABEL` for a word without a tag.

    Raises:
      TlxError: a value is not a list of tags, or no word has a tag.
    """
    tags_by_row = []
    for row, value in enumerate(table.column(column)):
        place = table.place(row)
        values = _list(value, place, column, "tags")
        if any(tag is None or isinstance(tag, (list, dict)) for tag in values):
            raise TlxError(f"{place}: the list in {column!r} holds more than tags: {value!r:.80}.")
        tags_by_row.append([_named(tag, place, f"tag {number} in {column!r}") for number, tag in enumerate(values, 1)])
    if tags_by_row and all(name == NO_LABEL for row in tags_by_row for name in row):
        raise TlxError(f"{table.name}: no word has a tag; all in {column!r} are {NO_LABEL}.")
    return tags_by_row


def tag_names(table: Table, column: str) -> tuple[str, ...]:
    """Returns the distinct tags in alphabetical order, preceded by `O` if it occurs."""
    all_tags = (name for row in tags(table, column) for name in row if name != NO_LABEL)
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
    for row, (value, row_tags) in enumerate(zip(table.column(tokens), tags(table, column), strict=True)):
        words = _list(value, table.place(row), tokens, "words")
        if any(isinstance(word, (list, dict)) for word in words):
            raise TlxError(f"{table.place(row)}: the list in {tokens!r} holds more than words: {value!r:.80}.")
        if len(words) != len(row_tags):
            raise TlxError(
                f"{table.place(row)}: {len(row_tags)} tags in {column!r} for {len(words)} words in {tokens!r};"
                " expected one for each."
            )
        for name in row_tags:
            if name not in positions:
                raise TlxError(f"{table.place(row)}: the tag {name!r} is none of the training set's {listed(known)}.")
        indices.append(np.array([positions[name] for name in row_tags], np.int32))
    return indices
