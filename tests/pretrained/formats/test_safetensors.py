"""safetensors that are cut off or lie are refused in one sentence."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.pretrained.formats.made import NUMBERS, entry, safetensors
from tlx.errors import TlxError
from tlx.pretrained.formats.safetensors_file import read_safetensors

BOTH = {"a": entry(0, 12, [3]), "b": entry(12, 24, [3])}


def refused(tmp_path: Path, content: bytes) -> str:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(TlxError) as caught:
        read_safetensors(tmp_path / "model.safetensors")
    assert str(tmp_path / "model.safetensors") in str(caught.value)
    return str(caught.value)


def test_the_unharmed_file(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    for header in (BOTH, {"__metadata__": {"format": "pt"}, **BOTH}):
        file.write_bytes(safetensors(header, NUMBERS))
        found = read_safetensors(file)
        assert [found[name].read().tolist() for name in "ab"] == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("before", range(8))
def test_a_header_that_is_not_padded(tmp_path: Path, before: int) -> None:
    """As safetensors wrote them before 0.3: the tensors begin anywhere."""
    (tmp_path / "a").write_bytes(safetensors(json.dumps(BOTH).encode() + b" " * before, NUMBERS))
    array = read_safetensors(tmp_path / "a")["b"].read()
    assert array.tolist() == [3, 4, 5] and array.flags.aligned
    assert array.flags.owndata or not array.flags.writeable  # a copy, or a view of the file that nobody can change


@pytest.mark.parametrize(
    ("header", "told"),
    [
        (b"{", "what should be JSON is none"),
        (b"\xff\xfe", "what should be JSON is none"),
        (b"[" * 200_000, "nested too deeply"),
        (b"[]", "a list where an object was expected"),
        (b'{"a": ' + b"1" * 5000 + b"}", "what should be JSON is none"),
        (b'{"a": NaN}', "holds NaN"),
        (b'{"a": 1, "a": 2}', "says 'a' twice"),
        (b'{"a": {"dtype": "F32", "dtype": "F16"}}', "says 'dtype' twice"),
        ({"__metadata__": {"format": 1}}, "__metadata__"),
        ({"__metadata__": []}, "__metadata__"),
        ({"a": []}, "does not give dtype, shape and data_offsets"),
        ({"a": {**entry(), "more": 1}}, "does not give dtype, shape and data_offsets"),
        ({"a": entry(dtype="F8_E4M3")}, "has the dtype 'F8_E4M3'; expected"),
        ({"a": entry(dtype=["F32"])}, "has the dtype a list; expected"),
        ({"a": {**entry(), "data_offsets": [0]}}, "not two whole numbers"),
        ({"a": {**entry(), "data_offsets": [0, 24.0]}}, "not two whole numbers"),
        ({"a": {**entry(), "data_offsets": [False, 24]}}, "not two whole numbers"),
        ({"a": {**entry(), "data_offsets": 24}}, "not two whole numbers"),
        ({"a": entry(shape=6)}, "a shape that no array has"),
        ({"a": entry(shape=[-2, -3])}, "a shape that no array has"),
        ({"a": entry(shape=[2, 3.0])}, "a shape that no array has"),
        ({"a": entry(shape=[True, 6])}, "a shape that no array has"),
        ({"a": entry(shape=[2**32, 2**32])}, "a shape that no array has"),
        ({"a": entry(0, 0, shape=[0, 2**62, 2**62])}, "a shape that no array has"),
        ({"a": entry(shape=[1] * 33 + [6])}, "a shape that no array has"),
        ({"a": entry(shape=[2, 4])}, "has 24 bytes, but [2, 4] of float32 takes 32"),
        ({"a": entry(24, 0)}, "has -24 bytes"),
        ({"a": entry(-24, 0)}, "has 24 bytes"),
        ({"a": entry(0, 12, [3]), "b": entry(8, 20, [3])}, "and overlaps"),
        ({"a": entry(0, 24), "b": entry(0, 24)}, "and overlaps"),
        ({"a": entry(0, 8, [2]), "b": entry(12, 24, [3])}, "and leaves a hole"),
        ({"a": entry(0, 1, [1], "U8"), "b": entry(1, 21, [5])}, "misaligned"),
        ({"a": entry(0, 12, [3])}, "its tensors take 12 bytes, but 24 follow"),
        ({"a": entry(0, 48, [12])}, "its tensors take 48 bytes, but 24 follow"),
        ({"a": entry(2**40, 2**40 + 24)}, "leaves a hole"),
    ],
)
def test_a_header_that_lies(tmp_path: Path, header: Any, told: str) -> None:
    assert told in refused(tmp_path, safetensors(header, NUMBERS))


def test_a_header_larger_than_the_file(tmp_path: Path) -> None:
    for length in (2**63, 2**64 - 1, 10**6):
        assert f"claims {length} bytes" in refused(tmp_path, safetensors(BOTH, NUMBERS, length))
    large = safetensors({"__metadata__": {"a": "b" * 2**23}})
    assert "more than 8388608" in refused(tmp_path, large)


def test_files_that_are_none(tmp_path: Path) -> None:
    assert "is empty" in refused(tmp_path, b"")
    assert "git lfs pull" in refused(tmp_path, b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    for missing in (tmp_path, tmp_path / "missing"):
        with pytest.raises(TlxError, match=r"is not a file|there is no file"):
            read_safetensors(missing)


def test_cut_anywhere(tmp_path: Path) -> None:
    whole = safetensors({"__metadata__": {"format": "pt"}, **BOTH}, NUMBERS)
    for length in range(len(whole)):
        refused(tmp_path, whole[:length])
    refused(tmp_path, whole + b"\0")
