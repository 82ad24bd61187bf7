"""NumPy's `.npz`: an archive of arrays of equal first length, each of them a column."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from tlx.errors import TlxError

KINDS = "biufU"  # what a column may hold: truth, whole and real numbers, texts


def read_npz(file: Path) -> dict[str, Any]:
    """The columns by their names in the archive: arrays of one dimension as lists, others as they are.

    Nothing is unpickled.

    Raises:
      TlxError: no archive of arrays, a damaged one, arrays of objects, of unequal lengths or without a length.
    """
    if not zipfile.is_zipfile(file):
        raise TlxError(f"{file} is no npz archive; expected what numpy.savez or savez_compressed writes.")
    arrays: dict[str, np.ndarray] = {}
    try:
        with np.load(file, allow_pickle=False) as archive:
            for name in archive.files:
                arrays[name] = _checked(file, name, archive)
    except TlxError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy raise a dozen kinds; each is told in its first line
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise TlxError(f"{file} cannot be read ({reason}); it is damaged, so write it again.") from None
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise TlxError(
            f"{file}: its arrays are columns and differ in their first length ({told}); expected one row each."
        )
    return {name: array.tolist() if array.ndim == 1 else array for name, array in arrays.items()}


def _checked(file: Path, name: str, archive: Any) -> np.ndarray:
    """One array, refused where it is none or holds what no column does."""
    try:
        array = archive[name]
    except ValueError as error:
        if "pickle" not in str(error):
            raise
        raise TlxError(
            f"{file}: the array {name!r} holds Python objects, which are not unpickled; save it as numbers or texts."
        ) from None
    if not isinstance(array, np.ndarray):
        raise TlxError(f"{file}: {name!r} is no array; expected what numpy.savez writes.")
    if array.dtype.kind not in KINDS:
        raise TlxError(f"{file}: the array {name!r} is of {array.dtype}; expected numbers or texts (str).")
    if not array.ndim:
        raise TlxError(f"{file}: the array {name!r} is a single value; expected one value a row.")
    return array
