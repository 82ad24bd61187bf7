"""A column whose rows are read when they are asked for, so that a set of images is never in memory whole."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


class Lazy(Sequence[Any]):
    """Rows of something with random access.

    Args:
      read: gives the value of one row of the source; called from several threads at once.
      rows: which rows of the source the column holds, in its order.
    """

    def __init__(self, read: Callable[[int], Any], rows: Sequence[int] | np.ndarray):
        self._read, self._rows = read, np.asarray(rows, np.int64)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> Any:
        """One row's value; of a slice or an array of indices, the column of these rows, still unread."""
        rows = self._rows[index]
        return self._read(int(rows)) if rows.ndim == 0 else Lazy(self._read, rows)
