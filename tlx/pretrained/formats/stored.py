"""A tensor in a file, not yet read, and the memory map that it is read from."""

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

    `read()` gives an array of exactly this shape and dtype. It may be a read-only view of the file, so that nothing is
    held in memory; who keeps it or changes it copies it.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]


def refuse(file: Path, kind: str, problem: str) -> NoReturn:
    """The one sentence about a file that is broken or was made to be."""
    raise TlxError(f"{file} is no {kind} that tlx can read: {problem}; download it or save it again.")


def mapped(file: Path) -> memoryview:
    """The bytes of a file, read-only, of which the system loads what is looked at.

    Raises:
      TlxError: the file is missing, empty, no plain file, or git-lfs's stand-in for one.
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
    """The bytes of an array of this shape; None if there is no such array."""
    sizes = [size for size in shape[: MOST_DIMENSIONS + 1] if type(size) is int and size >= 0]
    if len(sizes) != len(shape) or len(sizes) > MOST_DIMENSIONS:
        return None
    # numpy cannot hold (0, 2**62, 2**62), empty as it is, so an empty dimension counts as one here.
    if math.prod(max(size, 1) for size in sizes) * dtype.itemsize >= 2**62:
        return None
    return math.prod(sizes) * dtype.itemsize


def stored_at(
    data: memoryview, offset: int, shape: tuple[int, ...], dtype: np.dtype, strides: tuple[int, ...] | None = None
) -> Stored:
    """A tensor at an offset (in bytes) of a file; its strides, in bytes too, are those of rows in C order if None."""

    def read() -> np.ndarray:
        array: np.ndarray = np.ndarray(shape, dtype, data, offset, strides)  # numpy looks at the bounds once more
        return array if array.flags.aligned else array.copy()  # files need not begin their tensors where a CPU likes

    return Stored(shape, dtype, read)
