"""Flax's msgpack that is cut off, too deep or says what no array has is refused in one sentence."""

import struct
from pathlib import Path

import numpy as np
import pytest

from tests.pretrained.formats.made import NUMBERS, array, text
from tlx.errors import TlxError
from tlx.pretrained.formats.msgpack_file import CHUNKED, read_msgpack

GOOD = b"\x82" + text("a") + array() + text("b") + b"\x81" + text("c") + array(b"\x91\x06")
FLAT = array(b"\x91\x06")


def refused(tmp_path: Path, content: bytes) -> str:
    (tmp_path / "flax_model.msgpack").write_bytes(content)
    with pytest.raises(TlxError) as caught:
        read_msgpack(tmp_path / "flax_model.msgpack")
    assert str(tmp_path / "flax_model.msgpack") in str(caught.value) and len(str(caught.value)) < 600
    return str(caught.value)


def read(tmp_path: Path, content: bytes) -> dict[str, np.ndarray]:
    (tmp_path / "flax_model.msgpack").write_bytes(content)
    return {key: stored.read() for key, stored in read_msgpack(tmp_path / "flax_model.msgpack").items()}


def pieces(shape: bytes = b"\x82\xa10\x03\xa11\x04", chunks: bytes = b"\x82\xa10" + FLAT + b"\xa11" + FLAT) -> bytes:
    return b"\x81" + text("a") + b"\x83" + text(CHUNKED) + b"\xc3" + text("shape") + shape + text("chunks") + chunks


def test_the_unharmed_file(tmp_path: Path) -> None:
    found = read(tmp_path, GOOD)
    assert found["a"].tolist() == [[0, 1, 2], [3, 4, 5]] and found["b/c"].tolist() == [0, 1, 2, 3, 4, 5]
    joined = read(tmp_path, pieces())["a"]
    assert joined.shape == (3, 4) and joined.reshape(-1).tolist() == [*range(6), *range(6)]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"\x93\1\2\3", "holds a list, where a map of arrays"),
        (b"\xc0", "holds a value, where a map of arrays"),
        (b"\x80", "holds no array"),
        (b"\x81" + text("a") + b"\x80", "holds no array"),
        (GOOD + b"\0", "1 bytes follow its end"),
        (b"\x82" + (text("a") + array()) * 2, "the name 'a' occurs twice"),
        (b"\x81" + text("a/b") + array(), "contains '/'"),
        (b"\x81" + text("") + array(), "is empty"),
        (b"\x81\xda\x08\x00" + b"a" * 2048 + array(), "has 2048 bytes"),
        ((b"\x81" + text("n" * 200)) * 8 + array(), "too long"),
        (b"\x81\x01" + array(), "a name in '' is a integer, where a string"),
        (b"\x81\xa1\xff" + array(), "is not a text"),
        ((b"\x81" + text("a")) * 40 + array(), "more than 32 maps"),
        (b"\x81" * 100_000, "is a map, where a string"),
        (b"\xdf\xff\xff\xff\xff" + text("a") + array(), "more than 32 maps in one another, or 200000 entries"),
        (b"\xde\xff\xff" + text("a") + array(), "claims 1 more, and has 0"),
        (b"\x81" + text("a") + b"\x07", "stands a number"),
        (b"\x81" + text("a") + b"\xc3", "stands a number"),
        (b"\x81" + text("a") + b"\xc0", "stands a value"),
        (b"\x81" + text("a") + text("x"), "stands a string"),
        (b"\x81" + text("a") + b"\xc6\xff\xff\xff\xff", "stands a bytes"),
        (b"\x81" + text("a") + b"\xdd\xff\xff\xff\xff", "stands a list"),
        (b"\x81" + text("a") + b"\xc9\xff\xff\xff\xff\x01" + array()[3:], "its length or shape contradicts"),
        (b"\x81" + text("a") + array()[:1] + b"\x10" + array()[2:], "its length or shape contradicts"),
        (b"\x81" + text("a") + b"\xd8\x02" + b"x" * 16, "the extension type 2"),
        (b"\x81" + text("a") + b"\xd4\x01\x90", "not made of a shape, a dtype and bytes"),
        (b"\x81" + text("a") + b"\xd4\x01\x01", "is a integer, where a list"),
        (b"\x81" + text("a") + array(b"\x92\x02\x04"), "24 bytes, which its length or shape contradicts"),
        (b"\x81" + text("a") + array(b"\x92\xff\x04"), "is a value, where a integer"),
        (b"\x81" + text("a") + array(b"\x92" + (b"\xcf" + b"\xff" * 8) * 2), "shape contradicts"),
        (b"\x81" + text("a") + array(b"\x93\x00" + (b"\xcf\x7f" + b"\xff" * 7) * 2, data=b""), "shape contradicts"),
        (b"\x81" + text("a") + array(b"\xdd\xff\xff\xff\xff"), "not made of a shape"),
        (b"\x81" + text("a") + array(b"\x06"), "the shape of 'a' is a integer"),
        (b"\x81" + text("a") + array(dtype=text("object")), "has the dtype 'object'; expected"),
        (b"\x81" + text("a") + array(dtype=text(">f4")), "has the dtype '>f4'; expected"),
        (b"\x81" + text("a") + array(dtype=b"\x04"), "is a integer, where a string"),
        (pieces(shape=b"\x82\xa10\x03\xa11\x05"), "48 bytes, which its shape contradicts"),
        (pieces(shape=b"\x81\xa11\x0c"), "48 bytes, which its shape contradicts"),
        (pieces(shape=b"\x0c"), "48 bytes, which its shape contradicts"),
        (pieces(shape=b"\x81\xa10" + FLAT), "48 bytes, which its shape contradicts"),
        (pieces(chunks=b"\x80"), "the pieces of 'a'"),
        (pieces(chunks=b"\x81\xa10\x05"), "the pieces of 'a'"),
        (pieces(chunks=b"\x81\xa10" + array()), "the pieces of 'a'"),
        (pieces(chunks=b"\x82\xa10" + FLAT + b"\xa11" + array(b"\x91\x03", b"\xa7float64")), "the pieces of 'a'"),
        (pieces(chunks=b"\x82\xa10" + FLAT + b"\xa12" + FLAT), "the pieces of 'a'"),
        (pieces().replace(text("shape"), text("shave")), "the pieces of 'a'"),
        (b"\x81" + text("a") + b"\x81" + text(CHUNKED) + b"\xc3", "the pieces of 'a'"),
        (b"\x82" + text(CHUNKED) + b"\xc3" + text("a") + array(), "stands a number"),
    ],
)
def test_what_is_refused(tmp_path: Path, content: bytes, told: str) -> None:
    assert told in refused(tmp_path, content)


@pytest.mark.parametrize("whole", [GOOD, pieces()])
def test_cut_anywhere(tmp_path: Path, whole: bytes) -> None:
    for length in range(len(whole)):
        refused(tmp_path, whole[:length])


def test_the_widest_codes_for_small_things(tmp_path: Path) -> None:
    inner = b"\xdd\0\0\0\3\xdd\0\0\0\1\xcf" + struct.pack(">Q", 6) + b"\xdb\0\0\0\7float32\xc6" + struct.pack(">I", 24)
    content = b"\xdf\0\0\0\1\xdb\0\0\0\1a\xc9" + struct.pack(">I", len(inner) + 24) + b"\1" + inner + NUMBERS
    assert read(tmp_path, content)["a"].tolist() == [0, 1, 2, 3, 4, 5]
