"""A column whose rows are read on access, so that a set of images need not fit into memory."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


class Lazy(Sequence[Any]):
    """A column of a source with random access.

    Args:
      read: returns the value of one row of the source; it is called from several threads at once.
      rows: the rows of the source that the column holds, in the column's order.
    """

    def __init__(self, read: Callable[[int], Any], rows: Sequence[int] | np.ndarray):
        self._read, self._rows = read, np.asarray(rows, np.int64)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> Any:
        """Returns the value of one row; for a slice or an array of indices, a lazy column of these rows."""
        rows = self._rows[index]
        return self._read(int(rows)) if rows.ndim == 0 else Lazy(self._read, rows)
