"""Files made byte by byte, so that each can lie about one thing."""

import io
import json
import pickle
import struct
import zipfile
from typing import Any

NUMBERS = struct.pack("<6f", *range(6))
MAGIC = 0x1950A86A20F9469CFC6C


def safetensors(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file; a header that is no bytes is turned to JSON."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(begin: int = 0, end: int = 24, shape: Any = (2, 3), dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def plain(value: Any) -> bytes:
    """The opcodes that put a plain value on the stack."""
    return pickle.dumps(value, 2)[2:-1]


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def storage(key: str = "0", kind: str = "FloatStorage", count: int = 6, old: bool = False) -> bytes:
    last = plain(None) if old else b""
    opcodes = b"(" + plain("storage") + name("torch", kind) + plain(key) + plain("cpu") + plain(count)
    return opcodes + last + b"tQ"


def tensor(shape: Any = (2, 3), strides: Any = (3, 1), offset: int = 0, of: bytes | None = None) -> bytes:
    """The opcodes that put a tensor on the stack."""
    arguments = (of or storage()) + plain(offset) + plain(shape) + plain(strides)
    return name("torch._utils", "_rebuild_tensor_v2") + b"(" + arguments + b"\x89" + ordered() + b"tR"


def ordered() -> bytes:
    return name("collections", "OrderedDict") + b")R"


def program(*opcodes: bytes) -> bytes:
    return b"\x80\x02" + b"".join(opcodes) + b"."


def mapping(**items: bytes) -> bytes:
    """A pickle of a dict of what the opcodes put on the stack."""
    return program(b"}", b"(", *(plain(key) + value for key, value in items.items()), b"u")


def torch_zip(pickled: bytes, data: bytes = NUMBERS, method: int = zipfile.ZIP_STORED, **more: bytes) -> bytes:
    """What torch.save writes; `more` are further members, `__` in their names for "/"."""
    members = {"data.pkl": pickled, "byteorder": b"little", "data/0": data, "version": b"3\n"}
    members |= {key.replace("__", "/"): value for key, value in more.items()}
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for key, value in members.items():
            archive.writestr(zipfile.ZipInfo(f"archive/{key}"), value, method)
    return stream.getvalue()


def torch_legacy(
    pickled: bytes, data: bytes = NUMBERS, count: int = 6, keys: Any = ("0",), machine: Any = None, protocol: Any = 1001
) -> bytes:
    """What torch.save wrote before 1.6."""
    machine = {"little_endian": True} if machine is None else machine
    head = b"".join(pickle.dumps(value, 2) for value in (MAGIC, protocol, machine))
    return head + pickled + pickle.dumps(list(keys), 2) + struct.pack("<q", count) + data


def array(shape: bytes = b"\x92\x02\x03", dtype: bytes = b"\xa7float32", data: bytes = NUMBERS) -> bytes:
    """flax's extension type for an array."""
    inner = b"\x93" + shape + dtype + b"\xc4" + bytes([len(data)]) + data
    return b"\xc7" + bytes([len(inner)]) + b"\x01" + inner


def text(value: str) -> bytes:
    return b"\xd9" + bytes([len(value.encode())]) + value.encode()
