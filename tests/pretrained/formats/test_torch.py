"""PyTorch's files: what they may hold, and that nothing else is run."""

import os
import pickle
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.pretrained.formats.made import (
    NUMBERS,
    mapping,
    name,
    ordered,
    plain,
    program,
    storage,
    tensor,
    torch_legacy,
    torch_zip,
)
from tlx.errors import TlxError
from tlx.pretrained.formats.torch_file import read_torch

FORMS = pytest.mark.parametrize("form", [torch_zip, torch_legacy])
Form = Callable[..., bytes]


def refused(tmp_path: Path, content: bytes) -> str:
    (tmp_path / "pytorch_model.bin").write_bytes(content)
    with pytest.raises(TlxError) as caught:
        read_torch(tmp_path / "pytorch_model.bin")
    assert str(tmp_path / "pytorch_model.bin") in str(caught.value) and len(str(caught.value)) < 600
    return str(caught.value)


def read(tmp_path: Path, content: bytes) -> dict[str, np.ndarray]:
    (tmp_path / "pytorch_model.bin").write_bytes(content)
    return {key: stored.read() for key, stored in read_torch(tmp_path / "pytorch_model.bin").items()}


@FORMS
def test_the_unharmed_file(tmp_path: Path, form: Form) -> None:
    found = read(tmp_path, form(mapping(a=tensor(), b=tensor((3, 2), (1, 3)), c=tensor((2,), (2,), 1))))
    assert found["a"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert found["b"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert found["c"].tolist() == [1, 3]


@FORMS
def test_older_and_rarer_ways_to_say_it(tmp_path: Path, form: Form) -> None:
    first = name("torch._utils", "_rebuild_tensor") + b"(" + storage(old=True) + plain(0) + plain((6,)) + plain((1,))
    size = name("torch", "Size") + b"(" + plain((2, 3)) + b"t" + b"R"
    sized = name("torch._utils", "_rebuild_tensor_v2") + b"(" + storage() + plain(0) + size + plain((3, 1))
    found = read(tmp_path, form(mapping(first=first + b"tR", sized=sized + b"\x89" + ordered() + b"tR")))
    assert found["first"].tolist() == list(range(6)) and found["sized"].shape == (2, 3)


class Calls:
    """What a hostile pickle does when it is opened."""

    def __init__(self, function: Any, *arguments: Any):
        self.told = function, arguments

    def __reduce__(self) -> Any:
        return self.told


@FORMS
@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_nothing_is_executed(tmp_path: Path, form: Form, protocol: int) -> None:
    planted = tmp_path / "executed"
    command = f"touch {planted}"
    for hostile in (
        Calls(os.system, command),
        {"a": Calls(os.system, command)},
        Calls(eval, f"open({str(planted)!r}, 'w')"),
        {"weight": [Calls(eval, "1"), Calls(Calls, Calls(os.system, command))]},
        Calls(getattr, Calls(__import__, "os"), "system"),
    ):
        told = refused(tmp_path, form(pickle.dumps(hostile, protocol)))
        assert (
            "which is not allowed in a file of tensors (nothing was executed)" in told
            or "which tensors do not need" in told
        )
        assert not planted.exists()


@pytest.mark.parametrize("where", [0, 1, 2, 4])
def test_nothing_is_executed_in_the_smaller_pickles(tmp_path: Path, where: int) -> None:
    pickles = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, 0, ["0"])]
    pickles[3] = mapping(a=tensor())
    pickles[where] = pickle.dumps(Calls(os.system, f"touch {tmp_path / 'executed'}"), 2)
    assert "which is not allowed in a file of tensors" in refused(tmp_path, b"".join(pickles))
    assert not (tmp_path / "executed").exists()


SYSTEM = name("posix", "system")
TOUCH = plain("touch /tmp/tlx-was-executed")


@FORMS
@pytest.mark.parametrize(
    ("pickled", "told"),
    [
        (mapping(a=SYSTEM + b"(" + TOUCH + b"tR"), "asks for 'posix.system'"),
        (mapping(a=plain("posix") + plain("system") + b"\x93" + TOUCH + b"\x85R"), "asks for 'posix.system'"),
        (mapping(a=plain("torch._utils") + plain("_rebuild_tensor_v2\0") + b"\x93"), "asks for 'torch._utils._rebuild"),
        (mapping(a=plain(1) + plain(2) + b"\x93"), "asks for '?.?'"),
        (mapping(a=name("torch", "load")), "asks for 'torch.load'"),
        (mapping(a=name("torch.storage", "_load_from_bytes")), "asks for 'torch.storage._load_from_bytes'"),
        (program(b"cos\nsystem\n(", TOUCH, b"o"), "asks for 'os.system'"),
        (program(b"(ios\nsystem\n"), "opcode INST"),
        (program(b"}", plain("a"), b"(", name("torch", "FloatStorage"), b"o"), "opcode OBJ"),
        (program(name("collections", "OrderedDict"), b")\x81"), "opcode NEWOBJ"),
        (program(b"\x82\x01"), "opcode EXT1"),
        (program(b"P1\n"), "opcode PERSID"),
        (program(name("collections", "OrderedDict"), plain(((1, 2),)), b"R"), "calls collections.OrderedDict in a way"),
        (program(name("torch", "FloatStorage"), b")R"), "not a function for tensors"),
        (program(plain(1), b")R"), "not a function for tensors"),
        (program(name("torch", "Size"), plain(1), b"R"), "not a function for tensors"),
        (program(name("torch", "Size"), plain((1,)), b"R"), "calls torch.Size in a way"),
        (program(b"R"), "empty stack"),
        (program(b"(R"), "empty stack"),
        (program(b"t"), "a mark that it never set"),
        (program(b"h\x05"), "recalls what it never kept"),
        (program(plain(1), plain("a"), plain(2), b"s"), "not a dict"),
        (program(plain(1), plain("a"), b"a"), "not a list"),
        (program(b"}(", plain("a"), b"u"), "a name without a value"),
        (program(b"}", plain(((1, 2), 3)), plain(2), b"s"), "a dict in it has a tuple as a name"),
        (program(b"}(", plain("a"), tensor(), plain("a"), tensor(), b"u"), "holds 'a' twice"),
        (program(plain(1), plain(2), b"b"), "not a dict"),
        (b"\x80\x02\xff.", "broken (at position"),
        (b"\x80\x02X\xff\xff\xff\x7fabc.", "broken"),
        (b"\x80\x02\x8d" + b"\xff" * 8 + b".", "broken"),
        (b"\x80\x02\x8e" + struct.pack("<Q", 2**62) + b".", "broken"),
        (b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b".", "broken"),
    ],
)
def test_a_pickle_that_does_something_else(tmp_path: Path, form: Form, pickled: bytes, told: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert told in refused(tmp_path, form(pickled))
    assert not Path("/tmp/tlx-was-executed").exists()


@FORMS
@pytest.mark.parametrize(
    ("opcodes", "told"),
    [
        (tensor((2, 4), (3, 1)), "reaches to number 6 of a storage of 6"),
        (tensor((2, 3), (3, 1), 1), "reaches to number 6 of a storage of 6"),
        (tensor((2, 3), (2**40, 1)), f"reaches to number {2**40 + 2} of a storage of 6"),
        (tensor((0, 3), (3, 1), 7), "reaches to number 6 of a storage of 6"),
        (tensor((2, 3), (-3, 1), 3), "that no array has"),
        (tensor((2, 3), (3, 1), -1), "that no array has"),
        (tensor((-2, 3)), "that no array has"),
        (tensor((2, 3), (3,)), "that no array has"),
        (tensor((2, "3")), "that no array has"),
        (tensor((2, 3.0)), "opcode BINFLOAT"),
        (tensor((2, True), (3, True)), "that no array has"),
        (tensor((1,) * 40, (1,) * 40), "that no array has"),
        (tensor((0, 2**62), (1, 1)), "that no array has"),
        (tensor((1, 2), (2**62, 1)), "that no array has"),
        (tensor((2**40,), (0,)), "repeats a storage of 6 numbers"),
        (tensor((5000, 5000), (0, 0)), "repeats a storage of 6 numbers"),
        (tensor([2, 3]), "describes a tensor in a way"),
        (tensor(offset=None), "describes a tensor in a way"),  # type: ignore[arg-type]
        (tensor(of=plain(1)), "describes a tensor in a way"),
        (tensor(of=storage(count=-6)), "a storage of -6 numbers"),
        (tensor(of=storage(count=2**62)), f"a storage of {2**62} numbers"),
        (tensor((12,), (1,), of=storage(count=12)), "should have 48 bytes"),
        (tensor((5,), (1,), of=storage(count=5)), "should have 20 bytes, but 24 bytes"),
        (tensor(of=storage(kind="Size")), "of the class 'torch.Size'"),
        (tensor(of=storage(kind="ComplexFloatStorage")), "asks for 'torch.ComplexFloatStorage'"),
        (tensor(of=plain(("storage", 1, "0", "cpu", 6)) + b"Q"), "describes a storage in a way"),
        (
            tensor(of=b"(" + plain("module") + name("torch", "FloatStorage") + plain("0cpu") + b"tQ"),
            "describes a storage",
        ),
        (
            name("torch._utils", "_rebuild_tensor_v2") + b"(" + storage() + b"tR",
            "calls torch._utils._rebuild_tensor_v2",
        ),
        (name("torch._utils", "_rebuild_parameter") + plain((1, 2, 3)) + b"R", "calls torch._utils._rebuild_parameter"),
    ],
)
def test_a_tensor_that_is_none(tmp_path: Path, form: Form, opcodes: bytes, told: str) -> None:
    found = refused(tmp_path, form(mapping(a=opcodes)))
    assert told.replace("24 bytes", "") in found if form is torch_legacy else told in found


@FORMS
def test_a_modest_expansion_is_read(tmp_path: Path, form: Form) -> None:
    found = read(tmp_path, form(mapping(a=tensor((3, 100), (1, 0)))))["a"]
    assert found.shape == (3, 100) and found[:, 99].tolist() == [0, 1, 2]


@FORMS
@pytest.mark.parametrize(
    ("pickled", "told"),
    [
        (program(plain([1])), "holds a list, where a dict of tensors was expected"),
        (program(tensor()), "holds a Tensor, where a dict of tensors was expected"),
        (mapping(), "holds no tensor"),
        (mapping(model=b"}"), "holds a dict under 'model', where a flat dict of tensors was expected"),
        (mapping(a=tensor(), step=plain(3)), "holds a int under 'step'"),
        (mapping(a=tensor(), none=plain(None)), "holds None under 'none'"),
        (mapping(a=storage()), "holds a Storage under 'a'"),
    ],
)
def test_what_is_no_dict_of_tensors(tmp_path: Path, form: Form, pickled: bytes, told: str) -> None:
    assert told in refused(tmp_path, form(pickled))


def test_forms_that_are_not_read(tmp_path: Path) -> None:
    good = mapping(a=tensor())
    assert "pickle exhausted before seeing STOP" in refused(tmp_path, torch_zip(good[:-1]))
    assert "neither as a zip archive nor with torch's magic number" in refused(tmp_path, b"hello world" * 9)
    assert "neither as a zip" in refused(tmp_path, pickle.dumps({"a": 1}, 2))
    assert "its protocol is not 1001" in refused(tmp_path, torch_legacy(good, protocol=1002))
    for machine in ({"little_endian": False}, {}, [], 3):
        assert "not little-endian" in refused(tmp_path, torch_legacy(good, machine=machine))
    assert "not little-endian" in refused(tmp_path, torch_zip(good, byteorder=b"big"))
    assert "tar archive" in refused(tmp_path, b"\0" * 257 + b"ustar" + b"\0" * 250)


def test_storages_of_the_older_form(tmp_path: Path) -> None:
    good = mapping(a=tensor())
    for keys in ((), ("1",), ("0", "0"), (0,), ("0", "1")):
        assert "the storages that it lists" in refused(tmp_path, torch_legacy(good, keys=keys))
    assert "its last storage should end at byte" in refused(tmp_path, torch_legacy(good) + b"\0")
    for count in (-1, 7, 5, 2**62):
        assert "should have 24 bytes" in refused(tmp_path, torch_legacy(good, count=count))
    both = mapping(a=tensor(), b=tensor((3,), (1,), of=storage(kind="DoubleStorage", count=6)))
    assert "should have 48 bytes" in refused(tmp_path, torch_legacy(both))
    same = mapping(a=tensor(), b=tensor((3,), (1,), of=storage(kind="LongStorage", count=3)))
    assert read(tmp_path, torch_legacy(same))["b"].nbytes == read(tmp_path, torch_zip(same))["b"].nbytes == 24


def test_archives_that_lie(tmp_path: Path) -> None:
    good = mapping(a=tensor())
    assert "compressed or encrypted" in refused(tmp_path, torch_zip(good, method=zipfile.ZIP_DEFLATED))
    whole = torch_zip(good)
    assert read(tmp_path, whole)["a"].shape == (2, 3)
    assert "cut off or something was added" in refused(tmp_path, whole + b"\0")
    assert "its directory should end at" in refused(tmp_path, b"PK" + whole)
    two = _renamed(torch_zip(good, more____=b""), b"archive/more//", b"model/data.pkl")
    assert "2 files data.pkl" in refused(tmp_path, two)
    twice = _renamed(torch_zip(good, data__1=NUMBERS), b"archive/data/1", b"archive/data/0")
    assert "holds 'archive/data/0' twice" in refused(tmp_path, twice)
    assert "it is not there" in refused(tmp_path, _renamed(whole, b"archive/data/0", b"archive/data/1"))
    assert "0 files data.pkl" in refused(tmp_path, _renamed(whole, b"archive/data.pkl", b"archive/code.pkl"))


def _renamed(archive: bytes, old: bytes, new: bytes) -> bytes:
    assert len(old) == len(new) and archive.count(old) == 2  # in the directory and before the bytes
    return archive.replace(old, new)


def _changed(archive: bytes, signature: bytes, which: int, at: int, form: str, value: int) -> bytes:
    """With one field of the `which`th header of this signature overwritten."""
    begin = -1
    for _ in range(which + 1):
        begin = archive.index(signature, begin + 1)
    changed = bytearray(archive)
    struct.pack_into(form, changed, begin + at, value)
    return bytes(changed)


ENTRY, LOCAL, END = b"PK\1\2", b"PK\3\4", b"PK\5\6"


@pytest.mark.parametrize(
    ("signature", "which", "at", "form", "value", "told"),
    [
        (ENTRY, 2, 24, "<I", 2**31, "lies about 'archive/data/0'"),  # one size
        (ENTRY, 2, 20, "<Q", 2**31 + (2**31 << 32), "disagree"),  # both sizes
        (ENTRY, 2, 20, "<Q", 25 + (25 << 32), "disagree"),
        (ENTRY, 2, 42, "<I", 0, "disagree"),  # the place of another member
        (ENTRY, 2, 42, "<I", 2**32 - 2, "lies about"),
        (ENTRY, 2, 8, "<H", 1, "compressed or encrypted"),
        (ENTRY, 2, 28, "<H", 60000, "directory is broken"),
        (ENTRY, 2, 34, "<H", 1, "lies about"),
        (LOCAL, 2, 8, "<H", 8, "disagree"),
        (LOCAL, 2, 26, "<H", 60000, "disagree"),
        (LOCAL, 2, 28, "<H", 60000, "disagree"),
        (LOCAL, 2, 22, "<I", 23, "disagree"),
        (LOCAL, 2, 0, "<I", 0, "disagree"),
        (LOCAL, 0, 28, "<H", 40, "overlap"),
        (END, 0, 10, "<H", 9, "one of several parts"),
        (END, 0, 8, "<I", 3 + (3 << 16), "bytes more than its 3 members"),
        (END, 0, 8, "<I", 9 + (9 << 16), "directory is broken"),
        (END, 0, 16, "<I", 0, "directory should end at"),
        (END, 0, 12, "<I", 2**32 - 1, "directory should end at"),
        (END, 0, 20, "<H", 1, "has a comment"),
    ],
)
def test_a_field_of_an_archive_that_lies(
    tmp_path: Path, signature: bytes, which: int, at: int, form: str, value: int, told: str
) -> None:
    assert told in refused(tmp_path, _changed(torch_zip(mapping(a=tensor())), signature, which, at, form, value))


@FORMS
def test_cut_anywhere(tmp_path: Path, form: Form) -> None:
    whole = form(mapping(a=tensor()))
    for length in range(0, len(whole), 3):
        refused(tmp_path, whole[:length])
