"""Images of every kind against transformers' own loading, and what is said of those that cannot be read."""

import io
import os
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.data.pictures import noise, odd_files
from tlx.data.images import content, fingerprint, read_rgb
from tlx.errors import TlxError


def reference(file: Path) -> np.ndarray:
    from transformers.image_utils import load_image

    return np.asarray(load_image(str(file)))


def test_odd_files_are_read_as_transformers_does(tmp_path: Path) -> None:
    files = odd_files(tmp_path)
    assert len(files) > 25
    for file in files:
        expected = reference(file)
        for found in (read_rgb(file), read_rgb(str(file)), read_rgb(file.read_bytes())):
            assert found.dtype == np.uint8 and found.shape[-1] == 3
            np.testing.assert_array_equal(found, expected, err_msg=file.name)


def test_a_turned_image_is_turned_back(tmp_path: Path) -> None:
    """Not against the reference but against what EXIF means: 6 is a quarter to the right."""
    pixels = noise((4, 7, 3), 0)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.png"), np.rot90(pixels, -1))


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (noise((5, 4), 1), lambda a: np.repeat(a[..., None], 3, -1)),
        (noise((5, 4, 1), 2), lambda a: np.repeat(a, 3, -1)),
        (noise((5, 4, 3), 3), lambda a: a),
        (noise((5, 4, 4), 4), lambda a: a[..., :3]),
        (noise((8, 6, 3), 5)[::2, ::-1], lambda a: a),
        (np.array([[0, 255, 256, 65535]], np.uint16), lambda a: np.repeat(a.clip(0, 255)[..., None], 3, -1)),
        (np.array([[[7], [300]]], np.uint16), lambda a: np.repeat(a.clip(0, 255), 3, -1)),
    ],
)
def test_arrays(array: np.ndarray, expected: Callable[[np.ndarray], np.ndarray]) -> None:
    found = read_rgb(array)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected(array))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.zeros((4, 4, 3), np.float32), r"is an array of float32 \(4, 4, 3\); expected uint8"),
        (np.zeros((4, 4), bool), r"is an array of bool \(4, 4\); expected uint8"),
        (np.zeros((4, 4), np.int64), "is an array of int64"),
        (np.zeros((4, 4, 2), np.uint8), r"\(4, 4, 2\); expected \(height, width\), or"),
        (np.zeros((3, 4, 4, 3), np.uint8), "expected "),
        (np.zeros(4, np.uint8), "expected "),
        (np.uint8(3), "is a uint8; expected an image"),
        (np.zeros((0, 4), np.uint8), r"\(0, 4\), which has no pixels"),
        (np.zeros((4, 0, 3), np.uint8), "which has no pixels"),
        (np.zeros((4, 4, 3), np.uint16), "of uint16 only one channel is read"),
        (b"", "is empty: 0 bytes"),
        (b"no image at all", "is not an image that Pillow can read"),
        (None, "is missing; expected an image"),
        (3.5, "is a float; expected an image"),
    ],
)
def test_refused_sources(source: Any, message: str) -> None:
    with pytest.raises(TlxError, match=f"^npz:a, row 3 .*{message}") as error:
        read_rgb(source, "npz:a, row 3")
    assert "\n" not in str(error.value)


def truncations(name: str) -> list[bytes]:
    whole = io.BytesIO()
    Image.fromarray(noise((40, 40, 3), 6)).save(whole, name)
    data = whole.getvalue()
    return [data[: len(data) * k // 12] for k in range(1, 12)]


@pytest.mark.parametrize("name", ["jpeg", "png", "gif", "webp", "bmp", "tiff", "jpeg2000", "ppm"])
def test_truncated_files_are_refused(tmp_path: Path, name: str) -> None:
    file = tmp_path / f"a.{name}"
    for data in truncations(name):
        file.write_bytes(data)
        with pytest.raises(TlxError, match=r"truncated or damaged|not an image that Pillow") as error:
            read_rgb(file)
        assert str(file) in str(error.value) and "\n" not in str(error.value)


def bomb(side: int) -> bytes:
    """A PNG that claims side × side pixels of a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_decompression_bombs_are_refused_before_memory_is_taken() -> None:
    tracemalloc.start()
    with pytest.raises(TlxError, match=r"has more than 120,000,000 pixels, the most that are decoded"):
        read_rgb(bomb(50_000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * 2**20


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(TlxError, match=r"there is no file .*nowhere\.png"):
        read_rgb(tmp_path / "nowhere.png")
    with pytest.raises(TlxError, match="is not a file but a folder"):
        read_rgb(tmp_path)
    os.mkfifo(tmp_path / "pipe.png")
    for read in (read_rgb, fingerprint):
        with pytest.raises(TlxError, match=r"pipe\.png is not a file but a pipe"):
            read(tmp_path / "pipe.png")
    (tmp_path / "empty.png").touch()
    with pytest.raises(TlxError, match=r"empty.png is empty: 0 bytes"):
        read_rgb(tmp_path / "empty.png")
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(TlxError, match=r"text.png is not an image that Pillow can read"):
        read_rgb(tmp_path / "text.png")
    Image.fromarray(noise((4, 4, 3), 0)).save(tmp_path / "a.eps")
    with pytest.raises(TlxError, match=r"a.eps is PostScript, a program"):
        read_rgb(tmp_path / "a.eps")


def test_fingerprints(tmp_path: Path) -> None:
    pixels = noise((4, 6, 3), 0)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "b.png").write_bytes(data)
    assert b"".join(content(tmp_path / "a.png")) == data
    assert fingerprint(tmp_path / "a.png") == fingerprint(str(tmp_path / "b.png")) == fingerprint(data)
    arrays = [pixels, pixels[::-1], pixels.reshape(6, 4, 3), pixels.astype(np.uint16)]
    assert len({fingerprint(array) for array in arrays}) == 4
    assert fingerprint(pixels[:, ::-1]) == fingerprint(pixels[:, ::-1].copy())
    with pytest.raises(TlxError, match=r"there is no file .*nowhere"):
        fingerprint(tmp_path / "nowhere")
