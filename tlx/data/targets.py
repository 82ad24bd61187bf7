"""The targets of heads with several outputs: numbers of a regression, labels of a multi-label table.

Both are given by several columns whose names are joined by commas, or by one column. Names of labels follow the rules
of `tlx.data.labels`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tlx.data.labels import classes, name_of, split_columns
from tlx.data.sources import Table
from tlx.errors import TlxError, listed


def regression_targets(table: Table, column: str) -> np.ndarray:
    """Returns the targets of a regression, float32 (n, outputs).

    Args:
      table: the table.
      column: the name of a column, or several names joined by commas.

    Raises:
      TlxError: a target is missing, is not a finite number, or is too large for float32.
    """
    return np.column_stack([_finite(table, name) for name in split_columns(table, column) or (column,)])


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


def label_names(table: Table, column: str, separator: str = "|") -> tuple[str, ...]:
    """Returns the labels of a multi-label table.

    Args:
      table: the table.
      column: several columns joined by commas, which are then the labels; or one column of lists of names.
      separator: the separator of names in a string.
    """
    where = f"{table.name}: the labels in {column!r}"
    return split_columns(table, column) or classes(
        (name for row in _label_sets(table, column, separator) for name in row), where
    )


def multilabel_targets(table: Table, column: str, names: Sequence[str], separator: str = "|") -> np.ndarray:
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
    if columns := split_columns(table, column):
        return np.column_stack([_zeros_and_ones(table, name) for name in columns])
    positions = {name: i for i, name in enumerate(names)}
    labels = np.zeros((len(table), len(names)), np.int32)
    for row, labels_of_row in enumerate(_label_sets(table, column, separator)):
        for name in labels_of_row:
            if name not in positions:
                place = table.place(row)
                raise TlxError(f"{place}: the label {name!r} is not one of the training set's {listed(names)}.")
            labels[row, positions[name]] = 1
    return labels


def _label_sets(table: Table, column: str, separator: str) -> list[list[str]]:
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
