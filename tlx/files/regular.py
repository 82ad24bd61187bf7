"""Opens files that a user names, after checking that they are regular files.

Opening a named pipe blocks, `/dev/zero` never ends, and git-lfs leaves a small pointer file in place of the content.
Every reader of tlx opens files through `open_regular` or `read_bytes`.
"""

import os
import stat
from io import BufferedReader
from pathlib import Path

from tlx.errors import TlxError

LFS_POINTER = b"version https://git-lfs"


def open_regular(file: str | os.PathLike[str]) -> BufferedReader:
    """Opens a regular file (or a link to one) for reading bytes; the caller closes it.

    Args:
      file: the path of the file.

    Returns:
      The open file, positioned at its beginning.

    Raises:
      TlxError: the file does not exist; it is a folder, pipe, socket or device; it is a git-lfs pointer; or the system
        refuses to open it.
    """
    path = Path(file)
    try:
        opened = open(path, "rb", opener=_without_waiting)  # noqa: SIM115 - the caller closes it
    except FileNotFoundError:
        raise TlxError(f"there is no file {path}.") from None
    except IsADirectoryError:
        raise TlxError(f"{path} is not a file but a folder.") from None
    except OSError as error:
        raise TlxError(f"{path} cannot be opened: {error.strerror}.") from None
    except ValueError:  # a NUL byte in the name
        raise TlxError(f"there is no file {str(path)!r}; a path holds no NUL byte.") from None
    if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
        opened.close()
        raise TlxError(f"{path} is not a file but a pipe or a device; expected a regular file.")
    if opened.read(len(LFS_POINTER)) == LFS_POINTER:
        opened.close()
        raise TlxError(f"{path} is a git-lfs pointer, not the file itself; fetch the file with `git lfs pull`.")
    opened.seek(0)
    return opened


def read_bytes(file: str | os.PathLike[str], most: int | None = None) -> bytes:
    """Returns the content of a regular file.

    Args:
      file: the path of the file.
      most: the largest size in bytes that is accepted; None: any size.

    Raises:
      TlxError: as for `open_regular`; or the file has more than `most` bytes, or reading fails.
    """
    with open_regular(file) as opened:
        try:
            size = os.fstat(opened.fileno()).st_size
            if most is not None and size > most:
                raise TlxError(f"{file} has {size:,} bytes, more than the {most:,} that are read of such a file.")
            content = opened.read() if most is None else opened.read(most + 1)
        except OSError as error:
            raise TlxError(f"{file} cannot be read: {error.strerror}.") from None
    if most is not None and len(content) > most:
        raise TlxError(f"{file} grew beyond the {most:,} bytes that are read of such a file while it was read.")
    return content


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
