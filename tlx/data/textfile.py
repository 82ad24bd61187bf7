"""Reads the lines of a text file in UTF-8; the error for another encoding names the line and the byte."""

import codecs
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from tlx.errors import TlxError
from tlx.files.regular import open_regular

BLOCK = 2**20  # the most bytes that are read from a file at once
MOST = 2**26  # the most bytes of a line, so that a file without line ends does not fill the memory
END = re.compile(rb"\r\n|\n|\r")


def file_lines(file: Path) -> Iterator[str]:
    """Yields the lines of a regular file as `lines` does; the file is read in blocks.

    Raises:
      TlxError: as for `open_regular` and `lines`; or reading fails.
    """
    with open_regular(file) as opened:
        try:
            yield from lines(str(file), pieces(opened))
        except OSError as error:
            raise TlxError(f"{file} cannot be read: {error.strerror}.") from None


def pieces(opened: BinaryIO) -> Iterator[bytes]:
    """Yields the rest of a stream in pieces, which end at a line feed or have 1 MiB."""
    return iter(lambda: opened.readline(BLOCK), b"")


def lines(name: str, chunks: Iterable[bytes]) -> Iterator[str]:
    """Yields the lines of a file with their line ends (LF, CR LF or CR), without a byte order mark.

    Args:
      name: the name of the file, for messages.
      chunks: the file's bytes, split at any position. A line is yielded as soon as the chunk with its end is read.

    Raises:
      TlxError: the text is not UTF-8 (the message gives the line and the byte), or it holds a NUL byte or a line of
        more than 64 MiB.
    """
    at = 0
    for number, line in enumerate(_split_lines(name, chunks), 1):
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


def _split_lines(name: str, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yields the bytes of each line with its line end."""
    begun: list[bytes] = []  # the parts of a line whose end has not been read yet
    size = 0
    for chunk in chunks:
        start = 0
        if begun and begun[-1].endswith(b"\r"):  # the LF of a CR LF may be in this chunk
            start = 1 if chunk.startswith(b"\n") else 0
            yield b"".join([*begun, chunk[:start]])
            begun, size = [], 0
        for end in END.finditer(chunk, start):
            if end.end() == len(chunk) and end[0] == b"\r":
                break
            yield b"".join([*begun, chunk[start : end.end()]])
            begun, size, start = [], 0, end.end()
        if start < len(chunk):
            begun.append(chunk[start:])
            size += len(chunk) - start
        if size > MOST:
            raise TlxError(f"{name} has a line of more than {MOST:,} bytes; it is not a text file of rows.")
    if begun:
        yield b"".join(begun)
