"""The text of a file that a person wrote: UTF-8 throughout, or a sentence that says where it is not."""

import codecs
from pathlib import Path

from tlx.errors import TlxError


def read_text(file: Path) -> str:
    """The whole text, without a byte order mark; line ends are left as they are.

    Raises:
      TlxError: another encoding (with the byte of the file and its line), or a NUL byte, which no text holds.
    """
    data = file.read_bytes()
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise TlxError(f"{file} is UTF-16, expected UTF-8; convert it, e.g. with iconv -f UTF-16 -t UTF-8.")
    if (nul := data.find(0)) >= 0:
        raise TlxError(
            f"{file}, line {_line(data, nul)}: a NUL byte (byte {nul}); expected text in UTF-8, so convert the file"
            " if it is UTF-16, e.g. with iconv, and take the byte out if it is not."
        )
    try:
        return data.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise TlxError(
            f"{file} is not UTF-8 (line {_line(data, error.start)}, byte {error.start}: {error.reason});"
            " convert it, e.g. with iconv."
        ) from None


def _line(data: bytes, position: int) -> int:
    """The line, from 1, in which this byte stands; lines end in LF, CR LF or CR."""
    before = data[:position].replace(b"\r\n", b"\n")
    return 1 + before.count(b"\n") + before.count(b"\r")
