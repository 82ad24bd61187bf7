"""Files that would take more memory than there is, refused by what they say of themselves; large ones in turn."""

import io
import json
import threading
import time
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.data.test_images import bomb
from tlx.data import images
from tlx.data.images import open_rgb, read_rgb
from tlx.data.sources import load
from tlx.errors import TlxError
from tlx.files import memory
from tlx.pretrained.image_processor import ImageProcessor


def header(shape: tuple[int, ...], dtype: str = "|u1") -> bytes:
    made = io.BytesIO()
    np.lib.format.write_array_header_1_0(made, {"descr": dtype, "fortran_order": False, "shape": shape})
    return made.getvalue()


def archive(file: Path, head: bytes, zeros: int, method: int = zipfile.ZIP_DEFLATED, copies: int = 1) -> Path:
    """An npz of arrays with this header and so many bytes of zeros."""
    with zipfile.ZipFile(file, "w", method) as opened:
        for copy in range(copies):
            with opened.open(f"image{copy}.npy", "w", force_zip64=True) as member:
                member.write(head)
                for _ in range(zeros // 2**20):
                    member.write(bytes(2**20))
                member.write(bytes(zeros % 2**20))
    return file


def test_archives_that_are_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is refused by what its headers say, in little memory."""
    gib, most = 2**30, 500 * 2**30
    cases = [
        (archive(tmp_path / "a.npz", header((3 * gib // 2, 1)), 2**20), most, "as a decompression"),
        (
            archive(tmp_path / "b.npz", header((10**18, 1)), 100),
            most,
            r"take 5\d,\d{3}\.\d PiB of memory, and 500",
        ),
        (
            archive(tmp_path / "c.npz", header((10**12, 0)), 0),
            most,
            "is too large: its arrays would take 58.2 TiB",
        ),
        (archive(tmp_path / "d.npz", header((10**9,), "<U0"), 0), most, "as a decompression bomb's do"),
        (archive(tmp_path / "e.npz", header((4000,)), 4000), 100_000, r"take 254\.0 KiB of memory, and 97\.7 KiB are"),
        (archive(tmp_path / "f.npz", header((10**7, 1)), 100), most, r"is damaged: the array 'image0' of uint8"),
        (archive(tmp_path / "g.npz", header((9,)), 9, zipfile.ZIP_BZIP2), gib, "compressed by another method"),
        (archive(tmp_path / "h.npz", header((2**23, 1)), 2**23, copies=3), 2**29, "is too large"),
    ]
    for file, free, message in cases[:-1]:
        monkeypatch.setattr(memory, "available", lambda free=free: free)
        tracemalloc.start()
        with pytest.raises(TlxError, match=message) as error:
            load(f"npz:{file}")
        assert tracemalloc.get_traced_memory()[1] < 5 * 2**20
        tracemalloc.stop()
        assert str(file) in str(error.value) and ("damaged" in str(error.value)) == (file.name == "f.npz")
    monkeypatch.setattr(memory, "available", lambda: cases[-1][1])
    with pytest.raises(TlxError, match=r"is too large: its arrays would take 1\.5 GiB"):  # only together
        load(f"npz:{cases[-1][0]}")


def test_an_array_that_is_there_twice(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as opened:
        for name in ("x.npy", "x"):
            opened.writestr(name, header((3,)) + b"abc")
    with pytest.raises(TlxError, match="the array 'x' is there twice"):
        load(f"npz:{tmp_path}/a.npz")


def test_what_is_available() -> None:
    free = memory.available()
    assert free is not None and 0 < free < 2**46
    assert [memory.format_bytes(n) for n in (0, 1023, 1024, 3 * 2**29, 2**70)] == [
        "0 bytes", "1,023 bytes", "1.0 KiB", "1.5 GiB", "1,048,576.0 PiB",
    ]  # fmt: skip


def test_an_image_of_more_pixels_than_are_decoded(tmp_path: Path) -> None:
    """11,000 × 11,000 pixels are under Pillow's own guard."""
    with pytest.raises(TlxError, match="has more than 120,000,000 pixels"):
        read_rgb(bomb(11_000))


def test_large_images_are_decoded_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 100 pixels each, with 250 in flight: never three at once, though eight threads ask."""
    made = io.BytesIO()
    Image.new("RGB", (10, 10)).save(made, "png")
    monkeypatch.setattr(images, "_decoding", images._Budget(250))
    lock, now, most = threading.Lock(), 0, 0

    def work() -> None:
        nonlocal now, most
        with open_rgb(made.getvalue()):
            with lock:
                now, most = now + 1, max(most, now + 1)
            time.sleep(0.01)
            with lock:
                now -= 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert (now, most) == (0, 2)


def test_what_a_damaged_image_took_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_decoding", images._Budget(100))
    for _ in range(3):
        with pytest.raises(TlxError, match="cannot be decoded"):
            read_rgb(bomb(10))


@pytest.mark.parametrize("height", [255, 256, 600])
def test_transparency_in_bands_of_rows(tmp_path: Path, height: int) -> None:
    """A palette with an opacity for each colour; beside it Pillow's own composition of the whole."""
    pixels = np.random.default_rng(0).integers(0, 256, (height, 8), np.uint8)
    image = Image.fromarray(pixels, "P")
    image.putpalette(np.random.default_rng(1).integers(0, 256, 768, np.uint8).tobytes())
    image.save(tmp_path / "a.png", transparency=7)
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    settings: dict[str, Any] = {"image_processor_type": "ViTImageProcessor", "size": {"height": height, "width": 8}}
    (folder / "preprocessor_config.json").write_text(json.dumps({**settings, "do_convert_rgb": True}))
    with Image.open(tmp_path / "a.png") as opened:
        whole = opened.convert("RGB")
        whole = whole.convert("RGBA")
    expected = Image.alpha_composite(Image.new("RGBA", whole.size, "white"), whole).convert("RGB")
    np.testing.assert_array_equal(ImageProcessor(folder).pixels(tmp_path / "a.png"), np.asarray(expected))
