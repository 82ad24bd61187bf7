"""The lines of a text that a person wrote: UTF-8 throughout, or a sentence that says where it is not."""

import codecs
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from tlx.errors import TlxError
from tlx.files.regular import open_regular

BLOCK = 2**20  # bytes read of a file at a time
MOST = 2**26  # bytes of a line, so that a file without line ends does not fill the memory
END = re.compile(rb"\r\n|\n|\r")


def file_lines(file: Path) -> Iterator[str]:
    """`lines` of a regular file, which is read a block at a time."""
    with open_regular(file) as opened:
        try:
            yield from lines(str(file), pieces(opened))
        except OSError as error:
            raise TlxError(f"{file} cannot be read: {error.strerror}.") from None


def pieces(opened: BinaryIO) -> Iterator[bytes]:
    """What is left of a stream, cut after line feeds and at 1 MiB."""
    return iter(lambda: opened.readline(BLOCK), b"")


def lines(name: str, given: Iterable[bytes]) -> Iterator[str]:
    """Line after line with its end (LF, CR LF or CR) as it is, without a byte order mark.

    Args:
      name: of the file, for messages.
      given: its bytes, cut anywhere; a line is given once the piece that ends it is there.

    Raises:
      TlxError: another encoding (with the byte of the file and its line), a NUL byte, which no text holds, or a line of
        more than 64 MiB.
    """
    at = 0
    for number, line in enumerate(_cut(name, given), 1):
        if number == 1 and line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise TlxError(f"{name} is UTF-16, expected UTF-8; convert it, e.g. with iconv -f UTF-16 -t UTF-8.")
        if (nul := line.find(0)) >= 0:
            raise TlxError(
                f"{name}, line {number}: a NUL byte (byte {at + nul}); expected text in UTF-8, so convert the file"
                " if it is UTF-16, e.g. with iconv, and take the byte out if it is not."
            )
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise TlxError(
                f"{name} is not UTF-8 (line {number}, byte {at + error.start}: {error.reason});"
                " convert it, e.g. with iconv."
            ) from None
        at += len(line)
        yield text.removeprefix("\ufeff") if number == 1 else text


def _cut(name: str, given: Iterable[bytes]) -> Iterator[bytes]:
    """The bytes cut after each line end."""
    rest: list[bytes] = []  # pieces of a line whose end is still to come
    size = 0
    for piece in given:
        start = 0
        if rest and rest[-1].endswith(b"\r"):  # the other half of its line end may stand in this piece
            start = 1 if piece.startswith(b"\n") else 0
            yield b"".join([*rest, piece[:start]])
            rest, size = [], 0
        for end in END.finditer(piece, start):
            if end.end() == len(piece) and end[0] == b"\r":
                break
            yield b"".join([*rest, piece[start : end.end()]])
            rest, size, start = [], 0, end.end()
        if start < len(piece):
            rest.append(piece[start:])
            size += len(piece) - start
        if size > MOST:
            raise TlxError(f"{name} has a line of more than {MOST:,} bytes; it is no text file of rows.")
    if rest:
        yield b"".join(rest)
