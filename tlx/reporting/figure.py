"""Writes matplotlib figures to files."""

from pathlib import Path
from typing import Any

from tlx.errors import TlxError, listed
from tlx.files.atomic import atomic_write, writable


def save(figure: Any, file: Path, **options: Any) -> Path:
    """Writes a matplotlib figure and returns the file.

    Args:
      figure: a `matplotlib.figure.Figure`.
      file: the file to write; its suffix decides the format, and its folder is created if it does not exist.
      options: further arguments of `Figure.savefig`.

    Raises:
      TlxError: if the format is not supported or the file cannot be written.
    """
    known, suffix = figure.canvas.get_supported_filetypes(), file.suffix.lstrip(".").lower()
    if suffix not in known:
        raise TlxError(f"{file}: the suffix of an image must be {listed(sorted(known), 20)}; found {suffix!r}.")
    with writable(file):
        file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(file, "wb") as opened:
        figure.savefig(opened, format=suffix, **options)
    return file
