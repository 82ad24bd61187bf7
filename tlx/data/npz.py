"""Reads NumPy's `.npz`: an archive of arrays of equal first length, each of which is a column.

The memory that an archive needs is computed from its directory and its arrays' headers before anything is decompressed.
"""

import math
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tlx.errors import TlxError
from tlx.files import memory
from tlx.files.memory import format_bytes
from tlx.files.regular import open_regular

KINDS = "biufU"  # the kinds of NumPy dtypes that a column may have: bool, integers, floats, texts
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # NumPy's; zipfile decompresses the others without a bound
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
SMALL = 2**30  # bytes that any archive may take in memory, if that many are available
# A larger archive may take at most this many times its size; photographs compress to a half, zeros to a thousandth.
RATIO = 100
OBJECT = 64  # the least bytes of a Python number or text in a list, with what is kept for its row


def read_npz(file: Path) -> dict[str, Any]:
    """Reads the arrays of an archive as columns. Nothing is unpickled.

    Returns:
      The columns by their names in the archive: arrays of one dimension as lists, others as arrays.

    Raises:
      TlxError: the file is not an archive of arrays, or is damaged; its arrays hold objects, differ in length or have
        no dimension; they would take more memory than is available, or more than 1 GiB and 100 times the file's size.
    """
    with open_regular(file) as opened:
        arrays = _arrays(file, opened)
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise TlxError(
            f"{file}: its arrays are columns and differ in their first length ({found}); expected one row each."
        )
    return {name: array.tolist() if array.ndim == 1 else array for name, array in arrays.items()}


def _arrays(file: Path, opened: BinaryIO) -> dict[str, np.ndarray]:
    if not zipfile.is_zipfile(opened):
        raise TlxError(f"{file} is not an npz archive; expected what numpy.savez or savez_compressed writes.")
    try:
        with zipfile.ZipFile(opened) as archive:
            needed = sum(_needed(file, archive, member) for member in archive.infolist())
            _check_memory(file, opened.seek(0, 2), needed)
            arrays: dict[str, np.ndarray] = {}
            for member in archive.infolist():
                if _name(member) in arrays:
                    raise TlxError(f"{file}: the array {_name(member)!r} is there twice; write it again.")
                with archive.open(member) as stream:
                    arrays[_name(member)] = np.lib.format.read_array(stream, allow_pickle=False)
            return arrays
    except TlxError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy raise a dozen kinds; the message quotes the first line
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise TlxError(f"{file} cannot be read ({reason}); it is damaged, so write it again.") from None


def _name(member: zipfile.ZipInfo) -> str:
    return member.filename.removesuffix(".npy")


def _needed(file: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> int:
    """Returns the bytes of memory that a member takes as a column, computed from its header alone.

    Raises:
      TlxError: the member is not an array that can be a column.
    """
    name = _name(member)
    if member.compress_type not in METHODS:
        raise TlxError(f"{file}: {name!r} is compressed by another method than NumPy's; write it with numpy.savez.")
    with archive.open(member) as stream:
        if stream.read(len(np.lib.format.MAGIC_PREFIX)) != np.lib.format.MAGIC_PREFIX:
            raise TlxError(f"{file}: {name!r} is not an array; expected what numpy.savez writes.")
        read_header = HEADERS.get((int.from_bytes(stream.read(1)), int.from_bytes(stream.read(1))))
        if read_header is None:
            raise TlxError(f"{file}: {name!r} is not an array of numbers or texts that tlx can read; save it as such.")
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


def _check_memory(file: Path, size: int, needed: int) -> None:
    """Refuses an archive of `size` bytes whose arrays take too many bytes (`needed`)."""
    free = memory.available()
    if free is not None and needed > free:
        raise TlxError(
            f"{file} is too large: its arrays would take {format_bytes(needed)} of memory, and {format_bytes(free)} are"
            " available; split it into several files, or keep images as files."
        )
    if needed > max(SMALL, RATIO * size):
        raise TlxError(
            f"{file} is too large for a file of {format_bytes(size)}: its arrays would take {format_bytes(needed)} of"
            f" memory, more than 1 GiB and {RATIO} times its size, as a decompression bomb's do; if it is none, write"
            " it with numpy.savez, uncompressed."
        )
