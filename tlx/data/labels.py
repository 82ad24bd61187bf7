"""Labels as a column holds them, as numbers that a loss takes; what does not fit is named with its row."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from tlx.data.sources import Table
from tlx.errors import TlxError, listed


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
    positions = {name: i for i, name in enumerate(names)}
    labels = [str(label) for label in table.column(column)]
    for row, label in enumerate(labels):
        if label not in positions:
            raise TlxError(
                f"{table.name}, row {row + 1}: the label {label!r} is none of the training set's {listed(names)}."
            )
    return np.array([positions[label] for label in labels], np.int32)


def label_names(table: Table, column: str, separator: str) -> tuple[str, ...]:
    """The labels of which a row may have any number: several columns of 0 and 1, or all that occur in one column."""
    if _several(table, column):
        return tuple(name.strip() for name in column.split(","))
    names = tuple(sorted({name for row in _label_sets(table, column, separator) for name in row}))
    if not names:
        raise TlxError(f"{table.name}: no row has a label in {column!r}.")
    return names


def multilabel(table: Table, column: str, names: Sequence[str], separator: str) -> np.ndarray:
    """int32 (n, labels): 1 where a row has the label.

    Args:
      table: the rows.
      column: several columns of 0 and 1 joined by commas; or one whose rows hold lists, or names joined by `separator`.
      names: of the labels, as `label_names` gives them for the training split.
      separator: between names in one string; an empty string is no label.
    """
    if _several(table, column):
        columns = [table.column(name) for name in names]
        for name, values in zip(names, columns, strict=True):
            for row, value in enumerate(values):
                if str(value) not in ("0", "1"):
                    raise TlxError(f"{table.name}, row {row + 1}: the label {name!r} is {value!r}; it is 0 or 1.")
        return np.array([[int(value) for value in row] for row in zip(*columns, strict=True)], np.int32)
    found = np.zeros((len(table), len(names)), np.int32)
    positions = {name: i for i, name in enumerate(names)}
    for row, labels in enumerate(_label_sets(table, column, separator)):
        for label in labels:
            if label not in positions:
                raise TlxError(
                    f"{table.name}, row {row + 1}: the label {label!r} is none of the training set's {listed(names)}."
                )
            found[row, positions[label]] = 1
    return found


def _several(table: Table, column: str) -> bool:
    return column not in table.columns and "," in column


def _label_sets(table: Table, column: str, separator: str) -> list[list[str]]:
    rows = []
    for value in table.column(column):
        parts = value if isinstance(value, (list, tuple)) else str("" if value is None else value).split(separator)
        rows.append([str(part).strip() for part in parts if str(part).strip()])
    return rows


def token_lists(table: Table, column: str) -> list[list[str]]:
    """A column of sentences as words, none of them empty."""
    found = []
    for row, words in enumerate(table.column(column)):
        if not isinstance(words, (list, tuple)):
            raise TlxError(
                f"{table.name}, row {row + 1}: {column!r} holds no list of words; tagging reads conll:, jsonl:."
            )
        if not words:
            raise TlxError(f"{table.name}, row {row + 1}: the sentence in {column!r} has no words; drop the row.")
        found.append([str(word) for word in words])
    return found


def tag_names(table: Table, column: str) -> tuple[str, ...]:
    """The distinct tags, `O` first and the others in the alphabet's order."""
    names = {tag for tags in token_lists(table, column) for tag in tags}
    return tuple(sorted(names, key=lambda name: (name != "O", name)))


def tag_indices(table: Table, tokens: str, tags: str, names: Sequence[str]) -> list[np.ndarray]:
    """int32 (words,) a sentence: the position of each word's tag in `names`."""
    positions = {name: i for i, name in enumerate(names)}
    found = []
    pairs = zip(token_lists(table, tokens), token_lists(table, tags), strict=True)
    for row, (words, given) in enumerate(pairs):
        if len(words) != len(given):
            raise TlxError(f"{table.name}, row {row + 1}: {len(words)} words and {len(given)} tags.")
        for tag in given:
            if tag not in positions:
                raise TlxError(
                    f"{table.name}, row {row + 1}: the tag {tag!r} is none of the training set's {listed(names)}."
                )
        found.append(np.array([positions[tag] for tag in given], np.int32))
    return found


def targets(table: Table, column: str) -> np.ndarray:
    """float32 (n, outputs): real-valued targets. column: one name, or several joined by commas."""
    if column in table.columns or "," not in column:
        columns = [table.column(column)]
    else:
        columns = [table.column(name.strip()) for name in column.split(",")]
    try:
        values = np.column_stack([np.asarray(values, np.float64) for values in columns])
    except (TypeError, ValueError) as error:
        raise TlxError(f"{table.name}: the column {column!r} is not all numbers ({error}).") from None
    if len(bad := np.flatnonzero(~np.isfinite(values).all(axis=1))):
        raise TlxError(f"{table.name}, row {bad[0] + 1}: the target in {column!r} is not a finite number.")
    return values.astype(np.float32)


def texts(table: Table, column: str) -> list[str]:
    """A column of texts, none of them empty."""
    found = ["" if text is None else str(text) for text in table.column(column)]
    for row, text in enumerate(found):
        if not text.strip():
            raise TlxError(f"{table.name}, row {row + 1}: the text in {column!r} is empty; drop the row or fill it.")
    return found
