"""NumPy's `.npz`: an archive of arrays of equal first length, each of them a column.

What an archive would take in memory is read from its directory and its arrays' headers before anything is inflated.
"""

import math
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tlx.errors import TlxError
from tlx.files import memory
from tlx.files.regular import open_regular

KINDS = "biufU"  # what a column may hold: truth, whole and real numbers, texts
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # NumPy's; of others zipfile inflates a piece without a bound
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
SMALL = 2**30  # bytes that any archive may take in memory, where so many are available
RATIO = 100  # beyond them: how often its own size; photographs compress to a half, rows of zeros to a thousandth
OBJECT = 64  # bytes of a Python number or text in a list, and of what is kept for a row, at least


def read_npz(file: Path) -> dict[str, Any]:
    """The columns by their names in the archive: arrays of one dimension as lists, others as they are.

    Nothing is unpickled.

    Raises:
      TlxError: no archive of arrays, a damaged one, arrays of objects, of unequal lengths or without a length; one
        that would take more memory than is available, or more than 1 GiB and 100 times its size.
    """
    with open_regular(file) as opened:
        arrays = _arrays(file, opened)
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise TlxError(
            f"{file}: its arrays are columns and differ in their first length ({told}); expected one row each."
        )
    return {name: array.tolist() if array.ndim == 1 else array for name, array in arrays.items()}


def _arrays(file: Path, opened: BinaryIO) -> dict[str, np.ndarray]:
    if not zipfile.is_zipfile(opened):
        raise TlxError(f"{file} is no npz archive; expected what numpy.savez or savez_compressed writes.")
    try:
        with zipfile.ZipFile(opened) as archive:
            needed = sum(_needed(file, archive, member) for member in archive.infolist())
            _refuse_what_is_too_large(file, opened.seek(0, 2), needed)
            found: dict[str, np.ndarray] = {}
            for member in archive.infolist():
                if _name(member) in found:
                    raise TlxError(f"{file}: the array {_name(member)!r} is there twice; write it again.")
                with archive.open(member) as stream:
                    found[_name(member)] = np.lib.format.read_array(stream, allow_pickle=False)
            return found
    except TlxError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy raise a dozen kinds; each is told in its first line
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise TlxError(f"{file} cannot be read ({reason}); it is damaged, so write it again.") from None


def _name(member: zipfile.ZipInfo) -> str:
    return member.filename.removesuffix(".npy")


def _needed(file: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> int:
    """The bytes that a member takes as a column, by its header alone; a refusal where it is no column."""
    name = _name(member)
    if member.compress_type not in METHODS:
        raise TlxError(f"{file}: {name!r} is compressed by another method than NumPy's; write it with numpy.savez.")
    with archive.open(member) as stream:
        if stream.read(len(np.lib.format.MAGIC_PREFIX)) != np.lib.format.MAGIC_PREFIX:
            raise TlxError(f"{file}: {name!r} is no array; expected what numpy.savez writes.")
        read_header = HEADERS.get((int.from_bytes(stream.read(1)), int.from_bytes(stream.read(1))))
        if read_header is None:
            raise TlxError(f"{file}: {name!r} is no array of numbers or texts that tlx can read; save it as such.")
        shape, _, dtype = read_header(stream)
        begin = stream.tell()
    if dtype.hasobject:
        raise TlxError(
            f"{file}: the array {name!r} holds Python objects, which are not unpickled; save it as numbers or texts."
        )
    if dtype.kind not in KINDS:
        raise TlxError(f"{file}: the array {name!r} is of {dtype}; expected numbers or texts (str).")
    if not shape:
        raise TlxError(f"{file}: the array {name!r} is a single value; expected one value a row.")
    count = math.prod(shape)
    needed = max(count * dtype.itemsize, member.file_size) + shape[0] * OBJECT
    if needed <= SMALL and begin + count * dtype.itemsize != member.file_size:
        raise TlxError(
            f"{file} is damaged: the array {name!r} of {dtype} {shape} has {member.file_size - begin:,} bytes; write it"
            " again."
        )
    return needed


def _refuse_what_is_too_large(file: Path, size: int, needed: int) -> None:
    free = memory.available()
    if free is not None and needed > free:
        raise TlxError(
            f"{file} is too large: its arrays would take {memory.told(needed)} of memory, and {memory.told(free)} are"
            " available; split it into several files, or keep images as files."
        )
    if needed > max(SMALL, RATIO * size):
        raise TlxError(
            f"{file} is too large for a file of {memory.told(size)}: its arrays would take {memory.told(needed)} of"
            f" memory, more than 1 GiB and {RATIO} times its size, as a decompression bomb's do; if it is none, write"
            " it with numpy.savez, uncompressed."
        )
