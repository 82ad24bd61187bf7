"""Atomic writing of files: a file appears at its path only when it is complete; a failure is one clear error."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from tlx.errors import FULL, TlxError


@contextlib.contextmanager
def atomic_write(file: str | Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Opens a temporary file beside `file` for writing, and moves it to `file` at the end of the `with` block.

    After an error the temporary file is removed and `file` is unchanged. A device or pipe (`/dev/stdout`, a process
    substitution) is written to directly. If `file` is a link, its target is replaced.

    Args:
      file: the path of the file.
      mode: `w` for text in UTF-8, whose line ends are not converted, or `wb` for bytes.

    Yields:
      The open file.

    Raises:
      TlxError: the file cannot be written. Its cause is the system's error.
    """
    text: dict[str, Any] = {} if "b" in mode else {"encoding": "utf-8", "newline": ""}
    with writable(file):
        place = Path(file).resolve()
        if place.exists() and not place.is_file() and not place.is_dir():
            with place.open(mode, **text) as opened:
                yield opened
            return
        if place.is_dir():
            raise TlxError(f"{file} cannot be written: it is a folder.")
        partial = place.with_name(f".{place.name}.partial")
        try:
            with partial.open(mode, **text) as opened:
                yield opened
            partial.replace(place)
        finally:
            with contextlib.suppress(OSError):  # a file that could not be created cannot be removed
                partial.unlink(missing_ok=True)


@contextlib.contextmanager
def writable(where: str | Path) -> Iterator[None]:
    """Converts the system's errors in writing to a path into a `TlxError`.

    Args:
      where: the path that the `with` block writes to. Errors that concern other files are not converted.

    Raises:
      TlxError: the path cannot be written.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        place = Path(where).resolve()
        failed = place if error.filename is None else Path(str(error.filename)).resolve()
        is_parent = failed in place.parents
        if not is_parent and failed.parent != place.parent and place not in failed.parents:
            raise  # the error concerns another file, one that is read at the same time
        is_other = is_parent or place in failed.parents
        reason = f"{failed}: {error.strerror}" if is_other else error.strerror or str(error)
        advice = "; make room, and give the same command again" if error.errno in FULL else ""
        raise TlxError(f"{where} cannot be written: {reason}{advice}.") from error
