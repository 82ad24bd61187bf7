"""Small files that claim to be gigabytes are refused in little memory and time."""

import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pretrained.formats.made import (
    array,
    entry,
    mapping,
    name,
    plain,
    program,
    safetensors,
    storage,
    tensor,
    text,
    torch_legacy,
    torch_zip,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of memory, and /proc, are Linux's")
ROOM = 400 * 2**20  # bytes of address space beside what Python has when it is ready to read
READ = f"""
import resource, sys, time
from pathlib import Path
from tlx.errors import TlxError
from tlx.pretrained.formats.folder import open_tensors

pages = int(Path("/proc/self/statm").read_text().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + {ROOM},) * 2)
for folder in sorted(Path(sys.argv[1]).iterdir()):
    start = time.process_time()
    try:
        for stored in open_tensors(folder).tensors.values():
            assert stored.read().shape == stored.shape
        print(folder.name, "was read", sep="\t")
    except TlxError as error:
        print(folder.name, error, sep="\t")
    assert time.process_time() - start < 20, folder
print("done")
"""


def bombs() -> Iterator[tuple[str, bytes, str]]:
    """File, content, and what is to be told of it."""
    pickles = {
        "large memo": (b"\x80\x02Nr" + struct.pack("<I", 2**31) + b"0.", "opcode POP"),
        "large memo of a dict": (program(b"}", b"r" + struct.pack("<I", 2**31)), "holds no tensor"),
        "large bytes": (b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b".", "is broken"),
        "large byte array": (b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b".", "is broken"),
        "large text": (b"\x80\x04\x8d" + struct.pack("<Q", 2**40) + b".", "is broken"),
        "large frame": (b"\x80\x04\x95" + struct.pack("<Q", 2**40) + b"}.", "holds no tensor"),
        "large integer": (b"\x80\x02\x8b" + struct.pack("<i", 2**30) + b"\1.", "is broken"),
        "large line": (b"\x80\x02c" + b"a" * 10**7, "bytes, more than"),
        "doubling tuples": (program(plain(1), b"q\1h\1\x86" * 30_000), "holds a tuple"),
        "doubled name": (program(b"}", plain(1), b"q\1h\1\x86" * 5000, plain(1), b"s"), "has a tuple as a name"),
        "deep tuples": (program(plain(1), b"\x85" * 100_000), "holds a tuple"),
        "deep lists": (program(b"]" * 100_000, b"a" * 99_999), "holds a list"),
        "shared size": (
            program(b"(", b"K\1" * 200_000, b"tq\1", (name("torch", "Size") + b"h\1\x85R") * 2000),
            "holds a tuple",
        ),
        "many marks": (program(b"(" * 510_000), "more than 500000 opcodes"),
        "expanded": (mapping(a=tensor((2**50,), (0,))), "repeats a storage"),
        "many expanded": (mapping(**{f"a{i}": tensor((2000, 2000), (0, 0)) for i in range(200)}), "was read"),
        "large storage": (mapping(a=tensor((2**40,), (1,), of=storage(count=2**40))), "should have"),
    }
    for what, (pickled, told) in pickles.items():
        yield f"zip: {what}/pytorch_model.bin", torch_zip(pickled), told
        if what.startswith(("large", "expanded")) and what not in ("large line", "large integer"):
            yield f"legacy: {what}/pytorch_model.bin", torch_legacy(pickled), told
    many = b"".join(struct.pack("<4s6H3I5H2I", b"PK\1\2", *[0] * 16) for _ in range(10))
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 65535, 65535, len(many), 0, 0)
    yield "zip: many members/pytorch_model.bin", many + end, "its directory lies"

    yield "st: header/model.safetensors", safetensors(b"{", length=2**40), "claims 1099511627776 bytes"
    shape = {"a": entry(0, 2**40, [2**38])}
    yield "st: shape/model.safetensors", safetensors(shape, b"\0" * 24), "but 24 follow"
    yield "st: deep/model.safetensors", safetensors(b'{"a":' + b"[" * 7_000_000), "nested too deeply"
    lists = b'{"a":[' + b"[]," * 1_000_000 + b"[]]}"
    yield "st: lists/model.safetensors", safetensors(lists), "does not give dtype"
    dimensions = {"a": entry(shape=[1] * 1_000_000)}
    yield "st: dimensions/model.safetensors", safetensors(dimensions), "a shape that no array has"
    twice = b'{"a":0' + b',"b%d":0' * 200_000 % tuple(range(200_000)) + b',"a":1}'
    yield "st: twice/model.safetensors", safetensors(twice), "says 'a' twice"

    yield "msgpack: map/flax_model.msgpack", b"\xdf\xff\xff\xff\xff", "200000 entries"
    yield "msgpack: array/flax_model.msgpack", b"\x81\xa1a\xc9\xff\xff\xff\xff\x01", "claims 1 more"
    inner = b"\x93\x91\xce\x7f\xff\xff\xff\xa5uint8\xc6\x7f\xff\xff\xff"
    yield "msgpack: bytes/flax_model.msgpack", b"\x81\xa1a\xc8\x00\x20\x01" + inner, "claims 2147483647 more"
    yield "msgpack: deep/flax_model.msgpack", b"\x81\xa1a" * 10**6, "more than 32 maps"
    wide = b"\xde\xff\xff" + b"".join(b"\xa4%04x" % i + b"\x80" for i in range(65535))
    yield "msgpack: empty maps/flax_model.msgpack", wide, "holds no array"
    long = text("n" * 250)
    nested = (b"\x81" + long) * 4 + b"\xde\xff\xff" + b"".join(b"\xa4%04x\x01" % i for i in range(65535))
    yield "msgpack: long names/flax_model.msgpack", nested, "stands a number"
    pieces = b"\x83\xd9\x19__msgpack_chunked_array__\xc3\xa5shape\x81\xa10\xce\x7f\xff\xff\xff\xa6chunks\x80"
    yield "msgpack: pieces/flax_model.msgpack", b"\x81\xa1a" + pieces, "the pieces of 'a'"
    yield "msgpack: fine/flax_model.msgpack", b"\x81\xa1a" + array(), "was read"
    weight_map = {"weight_map": {f"a{i}": f"part{i % 9}.bin" for i in range(100_000)}}
    yield "index: many/pytorch_model.bin.index.json", json.dumps(weight_map).encode(), "files that are not there"


def run(program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs Python in a process of its own, which may then limit itself."""
    path = os.pathsep.join([str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH", "")])
    command, environment = [sys.executable, "-c", program, str(folder)], {**os.environ, "PYTHONPATH": path}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def test_bombs(tmp_path: Path) -> None:
    expected = {}
    for file, content, told in bombs():
        (tmp_path / file).parent.mkdir()
        (tmp_path / file).write_bytes(content)
        expected[file.partition("/")[0]] = told
    ended = run(READ, tmp_path)
    assert ended.returncode == 0 and ended.stdout.endswith("done\n"), ended.stderr[-2000:]
    lines = ended.stdout.splitlines()[:-1]
    assert len(lines) == len(expected)
    for what, told in expected.items():
        (line,) = (line for line in lines if line.startswith(f"{what}\t"))
        assert told in line, line


LARGE = 2**28  # bytes of a file, in eight tensors
LEAN = f"""
import resource, sys
from pathlib import Path
import numpy as np
from tlx.pretrained.formats.folder import open_tensors

used = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_DATA, (used + {5 * LARGE // 16},) * 2)
for folder in sorted(Path(sys.argv[1]).iterdir()):
    tensors = open_tensors(folder).tensors
    assert len(tensors) == 8
    for stored in tensors.values():
        assert np.array(stored.read()).shape == ({LARGE // 32},)
    print(folder.name)
"""


def test_a_large_file_is_not_held_in_memory(tmp_path: Path) -> None:
    """There is room for two and a half of its eight tensors: an unaligned one is copied, and here once more. The files
    are holes but for their headers."""
    count, size = LARGE // 32, LARGE // 8
    shape, sized = b"\x91\xce" + count.to_bytes(4, "big"), size.to_bytes(4, "big")
    inner = b"\x93" + shape + b"\xa7float32\xc6" + sized
    header = {f"a{i}": entry(i * size, (i + 1) * size, [count]) for i in range(8)}
    tensors = {f"a{i}": tensor((count,), (1,), of=storage(str(i), count=count)) for i in range(8)}
    keys = [*map(str, range(8))]
    stored = [torch_legacy(mapping(**tensors), b"", count, keys)] + [struct.pack("<q", count)] * 7
    arrays = [b"\xa2a%d\xc9" % i + (len(inner) + size).to_bytes(4, "big") + b"\1" + inner for i in range(8)]
    for kind, parts in {
        "model.safetensors": [safetensors(header)] + [b""] * 7,
        "flax_model.msgpack": [b"\x88" + arrays[0], *arrays[1:]],
        "pytorch_model.bin": stored,
    }.items():
        (tmp_path / kind).mkdir()
        with (tmp_path / kind / kind).open("wb") as file:
            for part in parts:
                file.write(part)
                file.truncate(file.seek(size, os.SEEK_CUR))
    ended = run(LEAN, tmp_path)
    assert ended.stdout.split() == ["flax_model.msgpack", "model.safetensors", "pytorch_model.bin"], ended.stderr
