"""Tensors in a file that are read on demand from a memory map."""

import math
import mmap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import ml_dtypes
import numpy as np

from tlx.errors import TlxError
from tlx.files.regular import open_regular

MOST_DIMENSIONS = 32
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


@dataclass(frozen=True)
class Stored:
    """A tensor in a file.

    Attributes:
      shape: the tensor's shape.
      dtype: the tensor's dtype.
      read: returns the array, of this shape and dtype. It may be a read-only view of the file, so that it takes no
        memory; copy it before you keep or change it.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]


def refuse(file: Path, kind: str, problem: str) -> NoReturn:
    """Raises the error for a file that is damaged or malicious.

    Args:
      file: the file.
      kind: what it should be, such as "zip archive".
      problem: what is wrong with it.
    """
    raise TlxError(f"{file} is not a valid {kind}: {problem}; download it or save it again.")


def mapped(file: Path) -> memoryview:
    """Maps a file into memory, read-only; the system loads the pages that are accessed.

    Raises:
      TlxError: the file is missing, empty, not a regular file, or a git-lfs pointer.
    """
    try:
        with open_regular(file) as handle:
            return memoryview(mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        raise TlxError(f"{file} cannot be opened: {error.strerror}.") from None
    except ValueError as error:
        if isinstance(error, TlxError):
            raise
        raise TlxError(f"{file} is empty; download it or save it again.") from None


def bytes_of(shape: Sequence[object], dtype: np.dtype) -> int | None:
    """Returns the number of bytes of an array; None if no array can have this shape."""
    sizes = [size for size in shape[: MOST_DIMENSIONS + 1] if type(size) is int and size >= 0]
    if len(sizes) != len(shape) or len(sizes) > MOST_DIMENSIONS:
        return None
    # NumPy does not support the shape (0, 2**62, 2**62), although it is empty, so an empty dimension counts as 1 here.
    if math.prod(max(size, 1) for size in sizes) * dtype.itemsize >= 2**62:
        return None
    return math.prod(sizes) * dtype.itemsize


def stored_at(
    data: memoryview, offset: int, shape: tuple[int, ...], dtype: np.dtype, strides: tuple[int, ...] | None = None
) -> Stored:
    """Describes a tensor in a memory map.

    Args:
      data: the bytes of the file.
      offset: where the tensor begins, in bytes.
      shape: the tensor's shape.
      dtype: the tensor's dtype.
      strides: its strides in bytes; None: C order.
    """

    def read() -> np.ndarray:
        array: np.ndarray = np.ndarray(shape, dtype, data, offset, strides)  # NumPy checks the bounds again
        return array if array.flags.aligned else array.copy()  # tensors in files need not be aligned

    return Stored(shape, dtype, read)
