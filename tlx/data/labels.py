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
