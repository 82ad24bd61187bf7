"""Tables from data that a script or a notebook holds in memory."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tlx.data.sources import Table
from tlx.errors import TlxError, listed


def as_table(name: str, data: Any) -> Table:
    """Converts data in memory to a table.

    Args:
      name: the name of the table in messages, such as `train`.
      data: a list of rows (dicts with the same keys); columns by name (lists, NumPy arrays); a pandas DataFrame; a
        `datasets.Dataset`; or a `Table`.

    Raises:
      TlxError: the data has another type or no rows, or its columns differ in length.
    """
    if isinstance(data, Table):
        return data
    columns = _columns(name, data)
    lengths = {column: len(values) for column, values in columns.items()}
    if not lengths or not max(lengths.values()):
        raise TlxError(f"tables[{name!r}] holds no rows.")
    if len(set(lengths.values())) > 1:
        found = listed(f"{column} {length}" for column, length in lengths.items())
        raise TlxError(f"the columns of tables[{name!r}] differ in length: {found}.")
    return Table(f"tables[{name!r}]", columns)


def _columns(name: str, data: Any) -> dict[str, Any]:
    if hasattr(data, "to_dict") and hasattr(data, "columns"):  # pandas
        data = {column: data[column].to_numpy() for column in data.columns}
    elif hasattr(data, "column_names") and hasattr(data, "features"):  # datasets.Dataset
        labels = {column: getattr(feature, "names", None) for column, feature in data.features.items()}
        data = {column: _named(data[column], labels[column]) for column in data.column_names}
    if isinstance(data, Mapping):
        return {str(column): _values(values) for column, values in data.items()}
    if not isinstance(data, Sequence) or isinstance(data, str | bytes):
        raise TlxError(
            f"tables[{name!r}] is a {type(data).__name__}; expected a list of rows, columns by name, a pandas "
            "DataFrame or a datasets.Dataset."
        )
    for number, row in enumerate(data):
        if not isinstance(row, Mapping):
            raise TlxError(f"row {number} of tables[{name!r}] is {row!r:.60}; expected a dict.")
        if row.keys() != data[0].keys():
            odd = listed(sorted(map(str, row.keys() ^ data[0].keys())))
            raise TlxError(f"row {number} of tables[{name!r}] has other columns than row 0: {odd}.")
    return {str(column): _values([row[column] for row in data]) for column in (data[0] if data else ())}


def _values(values: Any) -> Any:
    """Returns arrays of numbers unchanged, and other columns as lists of plain Python values."""
    if isinstance(values, np.ndarray):
        return values if values.dtype.kind in "biuf" else values.tolist()
    return list(values)


def _named(values: Any, names: Sequence[str] | None) -> list[Any]:
    """Replaces the class indices of a `ClassLabel` by names; -1 (no label) and other values stay as they are."""
    if names is None:
        return list(values)
    return [names[value] if isinstance(value, int) and 0 <= value < len(names) else value for value in values]
