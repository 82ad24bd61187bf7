"""The one way a file is written: it is there only once it is whole, and what prevents that is one sentence."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from tlx.errors import FULL, TlxError


@contextlib.contextmanager
def whole(file: str | Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Opens a file for writing beside its place, and moves it there at the end; after an error nothing is left.

    A device or pipe (`/dev/stdout`, a process substitution) is written to as it is, and of a link what it points to.

    Args:
      file: where the content goes.
      mode: `w` for text, which is UTF-8 with line ends as they are written, or `wb`.

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
            with contextlib.suppress(OSError):  # where it could not be made it cannot be removed
                partial.unlink(missing_ok=True)


@contextlib.contextmanager
def writable(where: str | Path) -> Iterator[None]:
    """What the system says against writing there, as a `TlxError`."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        place = Path(where).resolve()
        named = place if error.filename is None else Path(str(error.filename)).resolve()
        on_the_way = named in place.parents
        if not on_the_way and named.parent != place.parent and place not in named.parents:
            raise  # of something that is read meanwhile
        said = f"{named}: {error.strerror}" if on_the_way else error.strerror or str(error)
        then = "; make room, and give the same command again" if error.errno in FULL else ""
        raise TlxError(f"{where} cannot be written: {said}{then}.") from error
