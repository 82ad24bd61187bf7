"""What is written is what the libraries write, and comes back."""

import json
import stat
from pathlib import Path
from typing import Any

import flax.serialization
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save

from tlx.errors import TlxError
from tlx.pretrained.formats import write
from tlx.pretrained.formats.folder import open_tensors
from tlx.pretrained.formats.write import write_msgpack, write_safetensors

NUMBERS = np.arange(24, dtype=np.float32).reshape(4, 6)
TREE = {
    "a": {"kernel": NUMBERS.T, "half": NUMBERS.astype(ml_dtypes.bfloat16), "one": np.array(2.0)},
    "b": {"empty": NUMBERS[:0], "whole": np.arange(3), "byte": np.array([1], np.uint8)},
}
FLAT = {f"{outer}/{name}": array for outer, arrays in TREE.items() for name, array in arrays.items()}


def check_comes_back(folder: Path, kind: str) -> None:
    opened = open_tensors(folder, kind)
    assert opened.tensors.keys() == FLAT.keys()
    for name, stored in opened.tensors.items():
        assert (stored.dtype, stored.shape) == (FLAT[name].dtype, FLAT[name].shape)
        assert stored.read().tobytes() == FLAT[name].tobytes()


@pytest.mark.parametrize("most", [1, 100, 10**6])
def test_safetensors_come_back(tmp_path: Path, most: int) -> None:
    files = write_safetensors(tmp_path, FLAT, most)
    assert sorted(files) == sorted(file.name for file in tmp_path.iterdir())
    assert all(stat.S_IMODE((tmp_path / file).stat().st_mode) == 0o644 for file in files)
    check_comes_back(tmp_path, "safetensors")
    assert (files == ["model.safetensors"]) == (most == 10**6)
    if most == 1:
        index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
        total = sum(array.nbytes for array in FLAT.values())
        assert index["metadata"] == {"total_parameters": 24 + 24 + 1 + 3 + 1, "total_size": total}
        assert index["weight_map"].keys() == FLAT.keys()
        assert files[0] == "model-00001-of-00005.safetensors"  # the empty tensor shares a file with the one of 1 byte


def test_safetensors_are_the_librarys_own_bytes(tmp_path: Path) -> None:
    tensors = {"b": NUMBERS, "a": np.arange(3, dtype=np.float32), "é": np.arange(2, dtype=np.float16)}
    write_safetensors(tmp_path, tensors, 10**6)
    assert (tmp_path / "model.safetensors").read_bytes() == save(tensors, metadata={"format": "pt"})
    assert load_file(tmp_path / "model.safetensors").keys() == tensors.keys()


@pytest.mark.parametrize("most", [None, 1, 100])
def test_msgpack_comes_back(tmp_path: Path, most: int | None) -> None:
    files = write_msgpack(tmp_path, TREE, most)
    assert (files == ["flax_model.msgpack"]) == (most is None)
    check_comes_back(tmp_path, "msgpack")


@pytest.mark.parametrize("piece", [40, 2**30])
def test_msgpack_is_flaxs_own_bytes(tmp_path: Path, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "LARGEST_PIECE", piece)
    monkeypatch.setattr(flax.serialization, "MAX_CHUNK_SIZE", piece)
    sizes: dict[str, Any] = {str(size): np.zeros(size, np.uint8) for size in (1, 2, 3, 4, 5, 200, 260, 70000)}
    tree = {"a": {**TREE["a"]}, "b": {**TREE["b"]}, "sizes": sizes}
    write_msgpack(tmp_path, tree)
    theirs = flax.serialization.msgpack_serialize(tree, in_place=True)  # or it sorts the names
    assert (tmp_path / "flax_model.msgpack").read_bytes() == theirs


def test_what_no_file_can_hold(tmp_path: Path) -> None:
    for dtype in (np.complex128, ">f4"):
        with pytest.raises(TlxError, match="tensor 'a' has the dtype"):
            write_safetensors(tmp_path, {"a": np.zeros(2, dtype)}, 100)
        with pytest.raises(TlxError, match="tensor 'a' has the dtype"):
            write_msgpack(tmp_path, {"a": np.zeros(2, dtype)})
    for tree in ({"a/b": NUMBERS}, {"a": {"": NUMBERS}}, {"a": {1: NUMBERS}}):
        with pytest.raises(TlxError, match="names are texts without '/'"):
            write_msgpack(tmp_path, tree)
    with pytest.raises(TlxError, match="there are no tensors"):
        write_safetensors(tmp_path, {}, 100)
    assert not [*tmp_path.iterdir()]
