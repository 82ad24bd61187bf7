"""The rules by which the values of a column become labels.

None, NaN and strings of spaces are missing labels, which are an error. The label -100, by the convention of Hugging
Face's datasets, means that there is no label: such a row is left out of a classification set, and such a word is left
out of loss and metrics. Spaces around a label are stripped. A number that is whole is written as an integer, so that 1,
1.0 and "1" are one class. True and False are classes with these names. It is an error if two different labels are the
same value (`True` and `1`, `1.0` and `1` as strings, one string in two Unicode normal forms). Lists and objects are not
labels.
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
        if (other := first.setdefault(_canonical(name), name)) != name:
            raise TlxError(
                f"{where}: {other!r} ({counts[other]} times) and {name!r} ({counts[name]} times) are one value written"
                " in two ways; write one of them."
            )


def _canonical(name: str) -> str:
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
    return [check_label(value, table.place(row), f"the {what} in {column!r}") for row, value in values]


def check_label(value: Any, place: str, what: str) -> str:
    """Returns the name of one label.

    Args:
      value: the label.
      place: the file and the row, for messages.
      what: what the value is, such as `the label in 'y'`, for messages.

    Raises:
      TlxError: the label is missing or is not a string or a number.
    """
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
        first.setdefault(_canonical(name), name)
    return [first[_canonical(name)] for name in names_of_rows]


def labelled_rows(table: Table, column: str, missing: Sequence[str] = (NO_LABEL,)) -> np.ndarray:
    """Returns the rows that have a label, int64, ascending.

    Args:
      table: the rows.
      column: the column of the labels, or several joined by commas, all of which must have one.
      missing: the names that mean "no label", "" for an empty cell, null and NaN.
    """
    unlabelled = np.zeros(len(table), bool)
    for name in split_columns(table, column) or (column,):
        unlabelled |= [_is_one_of(value, missing) for value in table.column(name)]
    return np.flatnonzero(~unlabelled)


def split_columns(table: Table, column: str) -> tuple[str, ...]:
    """Returns the column names that `column` joins by commas; none if it is the name of one column."""
    if column in table.columns or "," not in column:
        return ()
    return tuple(name.strip() for name in column.split(","))


def _is_one_of(value: Any, missing: Sequence[str]) -> bool:
    try:
        return name_of(value) in missing
    except ValueError:
        return False


def count_stripped(table: Table, column: str) -> int:
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
            raise TlxError(f"{table.place(row)}: the label {label!r} is not one of the training set's {listed(known)}.")
    return np.array([positions[label] for label in labels], np.int32)
