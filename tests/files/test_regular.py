"""Only regular files are opened; nothing is waited for."""

import os
from pathlib import Path

import pytest

from tlx.errors import TlxError
from tlx.files.regular import open_regular, read_bytes
from tlx.files.strict_json import parse, read_json


def test_a_file_and_a_link_to_one_are_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert read_bytes(tmp_path / "file") == read_bytes(str(tmp_path / "link"), most=7) == b"content"


def test_a_pipe_a_device_a_folder_and_nothing_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("pipe", "zero", "."):
        with pytest.raises(TlxError, match="is not a file but a"):
            open_regular(tmp_path / name)
    for name in ("missing", "with\0nul"):
        with pytest.raises(TlxError, match="there is no file"):
            open_regular(tmp_path / name)


def test_a_git_lfs_pointer_is_named(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(TlxError, match="git lfs pull"):
        read_bytes(tmp_path / "data.csv")


def test_a_bound_on_the_size(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    with pytest.raises(TlxError, match="has 5 bytes, more than the 4"):
        read_bytes(tmp_path / "file", most=4)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b'{"a": 1, "a": 2}', "says 'a' twice"),
        (b"[1]", "is a list where an object was expected"),
        (b'{"a": NaN}', "holds NaN"),
        (b'{"a": ' + b"[" * 200_000, "nested too deeply"),
        (b'{"a": ' + b"9" * 100_000 + b"}", "what should be JSON is none"),
        (b'{"a": "\xff"}', "what should be JSON is none"),
        (b"", "what should be JSON is none"),
    ],
)
def test_json_that_is_refused(text: bytes, problem: str) -> None:
    with pytest.raises(TlxError, match=problem):
        parse(text, "file.json", "config")


def test_json_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"a": [1]}')
    assert read_json(tmp_path / "config.json", "config") == {"a": [1]}
    with pytest.raises(TlxError, match="more than the 5"):
        read_json(tmp_path / "config.json", "config", most=5)
