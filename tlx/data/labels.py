"""Labels as a column holds them, as numbers that a loss takes; what does not fit is named with its row."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from tlx.data.sources import Table
from tlx.errors import TlxError, listed

OUTSIDE = "O"  # the tag of a word that belongs to nothing (Ramshaw & Marcus 1995)


def classes(column: Sequence[Any]) -> tuple[str, ...]:
    """The distinct labels, whole numbers in their order, others in the alphabet's."""
    names = {str(label) for label in column}
    if all(re.fullmatch(r"-?[0-9]+", name) for name in names):
        return tuple(sorted(names, key=int))
    return tuple(sorted(names))


def refuse_missing(table: Table, column: str) -> None:
    """A label that is not there is no class of its own."""
    for row, label in enumerate(table.column(column)):
        if label is None or str(label).strip() == "":
            raise TlxError(f"{table.name}, row {row + 1}: the label in {column!r} is missing; drop the row or fill it.")


def class_indices(table: Table, column: str, names: Sequence[str]) -> np.ndarray:
    """int32 (n,): the position of each row's label in `names`."""
    refuse_missing(table, column)
    positions = {name: i for i, name in enumerate(names)}
    labels = [str(label) for label in table.column(column)]
    for row, label in enumerate(labels):
        if label not in positions:
            raise TlxError(
                f"{table.name}, row {row + 1}: the label {label!r} is none of the training set's {listed(names)}."
            )
    return np.array([positions[label] for label in labels], np.int32)


def targets(table: Table, column: str) -> np.ndarray:
    """float32 (n, outputs): real-valued targets. column: one name, or several joined by commas."""
    columns = [table.column(name) for name in _split_columns(table, column) or (column,)]
    try:
        values = np.column_stack([np.asarray(values, np.float64) for values in columns])
    except (TypeError, ValueError) as error:
        raise TlxError(f"{table.name}: the column {column!r} is not all numbers ({error}).") from None
    if len(bad := np.flatnonzero(~np.isfinite(values).all(axis=1))):
        raise TlxError(f"{table.name}, row {bad[0] + 1}: the target in {column!r} is not a finite number.")
    return values.astype(np.float32)


def _split_columns(table: Table, column: str) -> tuple[str, ...]:
    """The columns that `column` joins by commas; none if it names one column."""
    if column in table.columns or "," not in column:
        return ()
    return tuple(name.strip() for name in column.split(","))


def label_names(table: Table, column: str, separator: str = "|") -> tuple[str, ...]:
    """The labels of a multi-label table: the columns that `column` joins by commas, or the distinct names in one."""
    return _split_columns(table, column) or classes([name for row in _sets(table, column, separator) for name in row])


def multilabel(table: Table, column: str, names: Sequence[str], separator: str = "|") -> np.ndarray:
    """int32 (n, labels): 1 where a row has the label, else 0.

    Args:
      column: several columns of 0 and 1 joined by commas; or one that holds lists of names, or names joined by the
        separator (an empty string: no label).
      names: the labels in order, as `label_names` found them in the training set.
    """
    if columns := _split_columns(table, column):
        return np.column_stack([_zeros_and_ones(table, name) for name in columns])
    positions = {name: i for i, name in enumerate(names)}
    answers = np.zeros((len(table), len(names)), np.int32)
    for row, found in enumerate(_sets(table, column, separator)):
        for name in found:
            if name not in positions:
                raise TlxError(
                    f"{table.name}, row {row + 1}: the label {name!r} is none of the training set's {listed(names)}."
                )
            answers[row, positions[name]] = 1
    return answers


def _sets(table: Table, column: str, separator: str) -> list[list[str]]:
    """The names of each row."""
    found = []
    for row, value in enumerate(table.column(column)):
        if isinstance(value, str):
            value = value.split(separator) if value.strip() else []
        if not isinstance(value, list):
            raise TlxError(
                f"{table.name}, row {row + 1}: the labels in {column!r} are {value!r}; expected a list of names, or"
                f" names joined by {separator!r}."
            )
        names = ["" if name is None else str(name).strip() for name in value]
        if "" in names:
            raise TlxError(f"{table.name}, row {row + 1}: one of the labels in {column!r}, {value!r}, has no name.")
        found.append(names)
    return found


def _zeros_and_ones(table: Table, column: str) -> np.ndarray:
    """int32 (n,)"""
    values = [str(value).strip() for value in table.column(column)]
    known = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "False": 0, "True": 1}
    for row, value in enumerate(values):
        if value not in known:
            raise TlxError(f"{table.name}, row {row + 1}: {column!r} is {value!r}; expected 0 or 1.")
    return np.array([known[value] for value in values], np.int32)


def texts(table: Table, column: str) -> list[str]:
    """A column of texts, none of them empty."""
    found = ["" if text is None else str(text) for text in table.column(column)]
    for row, text in enumerate(found):
        if not text.strip():
            raise TlxError(f"{table.name}, row {row + 1}: the text in {column!r} is empty; drop the row or fill it.")
    return found


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


def tags(table: Table, column: str) -> list[list[str]]:
    """The tags of each row, without the spaces around them."""
    found = [[tag.strip() for tag in row] for row in _lists(table, column, "tags")]
    for number, row in enumerate(found, 1):
        for position, tag in enumerate(row, 1):
            if not tag:
                raise TlxError(f"{table.name}, row {number}: tag {position} in {column!r} is missing; fill it.")
    return found


def tag_names(table: Table, column: str) -> tuple[str, ...]:
    """The distinct tags in the alphabet's order, `O` before them where it occurs."""
    names = {name for row in tags(table, column) for name in row}
    return tuple(sorted(names, key=lambda name: (name != OUTSIDE, name)))


def tag_indices(table: Table, tokens: str, column: str, names: Sequence[str]) -> list[np.ndarray]:
    """int32 (words,) for each row: the position of each word's tag in `names`.

    Args:
      tokens, column: the columns of words and of tags, as many tags as words in each row.
      names: the tags in order, as `tag_names` found them in the training set.
    """
    positions = {name: i for i, name in enumerate(names)}
    found = []
    for row, (words, given) in enumerate(zip(_lists(table, tokens, "words"), tags(table, column), strict=True), 1):
        if len(words) != len(given):
            raise TlxError(
                f"{table.name}, row {row}: {len(given)} tags in {column!r} for {len(words)} words in {tokens!r};"
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
        if any(element is None or element != element or isinstance(element, (list, dict)) for element in value):  # NaN
            raise TlxError(
                f"{table.name}, row {row}: the list in {column!r} holds more than {what}: {str(value)[:80]}."
            )
    return [[str(element) for element in value] for value in table.column(column)]
