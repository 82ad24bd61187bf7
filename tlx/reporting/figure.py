"""The one way a picture is written."""

from pathlib import Path
from typing import Any

from tlx.errors import TlxError, listed
from tlx.files.whole import whole, writable


def save(figure: Any, file: Path, **options: Any) -> Path:
    """Writes a matplotlib figure in the format that the file's suffix names; returns the file.

    Args:
      figure: a `matplotlib.figure.Figure`.
      file: its folder is made.
      options: of `Figure.savefig`.

    Raises:
      TlxError: no such format, or the file cannot be written.
    """
    known, suffix = figure.canvas.get_supported_filetypes(), file.suffix.lstrip(".").lower()
    if suffix not in known:
        raise TlxError(f"{file}: a picture's suffix is one of {listed(sorted(known), 20)}; found {suffix!r}.")
    with writable(file):
        file.parent.mkdir(parents=True, exist_ok=True)
    with whole(file, "wb") as opened:
        figure.savefig(opened, format=suffix, **options)
    return file
