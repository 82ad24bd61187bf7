"""A file is there only once it is whole; devices, links and places that cannot be written."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from tlx.errors import TlxError
from tlx.files.atomic import atomic_write, writable


def test_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "out.txt"
    with atomic_write(file) as opened:
        opened.write("é\n")
    assert file.read_bytes() == b"\xc3\xa9\n"
    with pytest.raises(KeyError), atomic_write(file) as opened:
        opened.write("another")
        raise KeyError
    assert file.read_bytes() == b"\xc3\xa9\n" and [path.name for path in tmp_path.iterdir()] == ["out.txt"]


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there" / "file")
    with atomic_write(tmp_path / "link", "wb") as opened:
        opened.write(b"x")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "there" / "file").read_bytes() == b"x"


def test_a_device_stays_one() -> None:
    """A full one, as a disk would be."""
    said = r"^/dev/full cannot be written: No space left on device; make room, and"
    with pytest.raises(TlxError, match=said), atomic_write("/dev/full") as opened:
        opened.write("x")
    assert Path("/dev/full").is_char_device()


@pytest.mark.parametrize(
    ("file", "reason"),
    [("file/out", "Not a directory"), ("none/out", "No such file or directory"), (".", "it is a folder")],
)
def test_where_nothing_can_be_written(file: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("as it was")
    with pytest.raises(TlxError) as refused, atomic_write(tmp_path / file):
        pytest.fail("opened")
    assert str(refused.value) == f"{tmp_path / file} cannot be written: {reason}."
    assert (tmp_path / "file").read_text() == "as it was"


def test_a_read_only_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is done there is refused, the removal of what was never made too."""

    def refuse(path: Path, *_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    for name in ("open", "unlink", "replace"):
        monkeypatch.setattr(Path, name, refuse)
    with pytest.raises(TlxError) as refused, atomic_write(tmp_path / "out"):
        pytest.fail("opened")
    assert str(refused.value) == f"{tmp_path / 'out'} cannot be written: Read-only file system."


def test_what_cannot_be_read_is_another_matter(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), writable(tmp_path / "out"):
        (tmp_path / "elsewhere" / "in").read_text()
