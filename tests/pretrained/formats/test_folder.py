"""Which file of a folder is taken, and indexes of parts that lead elsewhere, lack parts or lie."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.pretrained.formats.made import NUMBERS, array, entry, mapping, safetensors, tensor, text, torch_zip
from tlx.errors import TlxError
from tlx.pretrained.formats.folder import open_tensors

CONTENT = {
    "model.safetensors": safetensors({"a": entry()}, NUMBERS),
    "flax_model.msgpack": b"\x81" + text("a") + array(),
    "pytorch_model.bin": torch_zip(mapping(a=tensor())),
}


def index(folder: Path, weight_map: Any, name: str = "model.safetensors", **more: Any) -> None:
    (folder / f"{name}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map, **more}))


def refused(folder: Path, **options: Any) -> str:
    with pytest.raises(TlxError) as caught:
        open_tensors(folder, **options)
    return str(caught.value)


def test_the_order_of_preference(tmp_path: Path) -> None:
    found = []
    for name, content in CONTENT.items():
        (tmp_path / name).write_bytes(content)
    for name, content in CONTENT.items():
        part = "part" + Path(name).suffix
        (tmp_path / part).write_bytes(content)
        index(tmp_path, {"a": part}, name)
    while any((tmp_path / name).exists() for name in [*CONTENT, *(f"{name}.index.json" for name in CONTENT)]):
        opened = open_tensors(tmp_path)
        assert opened.tensors["a"].read().shape == (2, 3)
        found.append((opened.kind, opened.file.name))
        opened.file.unlink()
    assert found == [
        (kind, name + end)
        for kind, name in zip(("safetensors", "msgpack", "torch"), CONTENT)
        for end in ("", ".index.json")
    ]
    assert refused(tmp_path).endswith(
        "holds no weights; tlx reads model.safetensors, model.safetensors.index.json, flax_model.msgpack, "
        "flax_model.msgpack.index.json, pytorch_model.bin, pytorch_model.bin.index.json."
    )


def test_a_kind_can_be_chosen(tmp_path: Path) -> None:
    for name, content in CONTENT.items():
        (tmp_path / name).write_bytes(content)
    for kind, name in zip(("safetensors", "msgpack", "torch"), CONTENT):
        assert open_tensors(tmp_path, kind).file == tmp_path / name
    (tmp_path / "flax_model.msgpack").unlink()
    told = refused(tmp_path, kind="msgpack")
    assert told.endswith("holds no weights; tlx reads flax_model.msgpack, flax_model.msgpack.index.json.")
    assert "there is no kind of weights 'h5'" in refused(tmp_path, kind="h5")


@pytest.mark.parametrize(
    "part", ["../x", "/etc/passwd", "..", ".", "", "a/b.safetensors", "a\\b.safetensors", "a\0", "a\n", "\ud800"]
)
def test_an_index_that_leads_elsewhere(tmp_path: Path, part: str) -> None:
    (tmp_path / "x").write_bytes(CONTENT["model.safetensors"])
    (tmp_path / "inner").mkdir()
    index(tmp_path / "inner", {"a": f"{part}.safetensors"})
    if part not in ("..", ".", ""):
        assert "a plain name without a path was expected" in refused(tmp_path / "inner")
    index(tmp_path / "inner", {"a": part})
    assert "not ending in '.safetensors'" in refused(tmp_path / "inner") or "a plain name" in refused(
        tmp_path / "inner"
    )


def test_an_index_of_another_kind_of_file(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(CONTENT["pytorch_model.bin"])
    index(tmp_path, {"a": "pytorch_model.bin"})
    assert "it names 'pytorch_model.bin', not ending in '.safetensors'" in refused(tmp_path)


def test_parts_that_are_missing(tmp_path: Path) -> None:
    (tmp_path / "1.safetensors").write_bytes(CONTENT["model.safetensors"])
    index(tmp_path, {"a": "1.safetensors", "b": "2.safetensors", "c": "3.safetensors"})
    assert "names files that are not there: 2.safetensors, 3.safetensors; download them too" in refused(tmp_path)


def test_parts_that_hold_something_else(tmp_path: Path) -> None:
    (tmp_path / "1.safetensors").write_bytes(safetensors({"a": entry()}, NUMBERS))
    (tmp_path / "2.safetensors").write_bytes(safetensors({"b": entry()}, NUMBERS))
    index(tmp_path, {"a": "1.safetensors", "b": "2.safetensors"})
    assert open_tensors(tmp_path).tensors.keys() == {"a", "b"}
    index(tmp_path, {"a": "2.safetensors", "b": "1.safetensors"})
    assert "says that it holds b, and it does not" in refused(tmp_path)
    index(tmp_path, {"a": "1.safetensors", "b": "2.safetensors", "c": "2.safetensors"})
    assert "says that it holds c, and it does not" in refused(tmp_path)
    (tmp_path / "2.safetensors").write_bytes(safetensors({"b": entry(0, 12, [3]), "a": entry(12, 24, [3])}, NUMBERS))
    index(tmp_path, {"a": "1.safetensors", "b": "2.safetensors"})
    assert "does not say that it holds a;" in refused(tmp_path)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty"),
        (b"{", "what should be JSON is none"),
        (b"[]", "a list where an object"),
        (b"{}", "it has no weight_map"),
        (b'{"weight_map": {}}', "it has no weight_map"),
        (b'{"weight_map": []}', "it has no weight_map"),
        (b'{"weight_map": {"a": 1}}', "it has no weight_map"),
        (b'{"weight_map": {"a": "1.safetensors", "a": "2.safetensors"}}', "says 'a' twice"),
        (b'{"weight_map": {}, "more": ' + b"[" * 10**5 + b"]" * 10**5 + b"}", "nested too deeply"),
        (b" " * (8 * 2**20 + 1), "more than 8388608"),
    ],
)
def test_an_index_that_is_none(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_bytes(content)
    assert told in refused(tmp_path) and "model.safetensors.index.json" in refused(tmp_path)
