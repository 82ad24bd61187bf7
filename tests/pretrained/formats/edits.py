"""Ways to spoil a file of weights, drawn by hypothesis: blind ones, and ones that know the format."""

import io
import json
import pickletools
import struct
import zipfile
from typing import Any

from hypothesis import strategies as st

from tests.pretrained.formats.made import name, plain, storage, tensor

EXTREME = [
    0,
    1,
    2,
    7,
    8,
    127,
    128,
    255,
    2**15,
    2**16 - 1,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**62,
    2**63 - 1,
    2**63,
    2**64 - 1,
]
numbers = st.one_of(st.sampled_from(EXTREME), st.integers(0, 2**64 - 1), st.integers(0, 300))
JSON = st.one_of(
    numbers, st.integers(-(2**70), 2**70), st.booleans(), st.none(), st.floats(allow_nan=False), st.text(max_size=8),
    st.sampled_from([[], {}, [0], [2**40, 2**40], [[[]]], "F32", "BF16", "a" * 5000, "../x", "\ud800", 10**400]),
)  # fmt: skip
# Opcodes that hostile pickles are made of; SENTINEL is a command whose traces fuzz.py looks for.
SENTINEL = "touch tlx-was-executed"
HOSTILE = [
    name("posix", "system") + plain(SENTINEL) + b"\x85R", name("builtins", "eval"), name("os", "system"),
    plain("posix") + plain("system") + b"\x93", name("torch", "FloatStorage"), name("torch", "Size"),
    name("torch._utils", "_rebuild_tensor_v2"), name("torch._utils", "_rebuild_parameter"), tensor(), storage(),
    f"cposix\nsystem\n({SENTINEL!r}tR".encode(), b"r\0\0\0\x80", b"j\xff\xff\xff\xff", b"\x8e" + b"\xff" * 8, b"\x94",
    b"\x8a\xff" + b"\x7f" * 255, b"J\xff\xff\xff\xff", b"M\xff\xff", b"}", b"]", b")", b"(", b"t", b"u", b"s", b"a",
    b"e", b"R", b"b", b"Q", b".", b"0", b"2", b"\x85", b"\x86", b"\x87", b"N", b"\x88", b"\x81", b"\x92", b"o", b"i",
    b"h\0", plain(2**62), plain(-1), plain(0), plain(""), plain("0"), plain("a" * 300), plain((2**31, 2**31)),
    plain((0, 0)),
]  # fmt: skip


@st.composite
def blind(draw: Any, content: bytes, others: list[bytes]) -> bytes:
    """The bytes with one thing done to them that needs no knowledge of what they mean."""
    at = draw(st.integers(0, len(content)))
    end = min(len(content), at + draw(st.one_of(st.integers(0, 16), st.integers(0, len(content)))))
    what = draw(st.sampled_from(["flip", "byte", "number", "cut", "end", "twice", "splice", "insert"]))
    if what == "flip":
        return (
            content[:at] + bytes([content[at] ^ (1 << draw(st.integers(0, 7)))]) + content[at + 1 :]
            if end > at
            else content
        )
    if what == "byte":
        return content[:at] + draw(st.binary(min_size=1, max_size=3)) + content[at + 1 :]
    if what == "number":
        width, order = draw(st.sampled_from([1, 2, 4, 8])), draw(st.sampled_from(["little", "big"]))
        return content[:at] + (draw(numbers) % 256**width).to_bytes(width, order) + content[at + width :]
    if what == "cut":
        return content[:at] + content[end:]
    if what == "end":
        return content[:at]
    if what == "twice":
        return content[:end] + content[at:end] + content[end:]
    if what == "insert":
        return content[:at] + draw(st.binary(max_size=20)) + content[at:]
    other = draw(st.sampled_from(others))
    begin = draw(st.integers(0, len(other)))
    return content[:at] + other[begin : begin + end - at] + content[end:]


@st.composite
def in_json(draw: Any, text: bytes) -> bytes:
    """JSON with one value, or one name, that is another; sometimes a name that stands twice."""
    tree = json.loads(text)
    place = tree
    for _ in range(draw(st.integers(0, 3))):
        inner = [value for value in (place.values() if isinstance(place, dict) else place) if value]
        inner = [value for value in inner if isinstance(value, (dict, list))]
        if inner:
            place = draw(st.sampled_from(inner))
    key = draw(st.sampled_from([*place] if isinstance(place, dict) else range(len(place))))
    what = draw(st.sampled_from(["value", "value", "value", "name", "out", "twice", "all"]))
    if what == "name" and isinstance(place, dict):
        new = draw(st.one_of(st.text(max_size=4), st.sampled_from([*place])))
        place[new] = place.pop(key)
    elif what == "out":
        del place[key]
    else:
        place[key] = draw(JSON)
    edited = json.dumps(draw(JSON) if what == "all" else tree)
    return (edited.replace("}", ', "a": 1, "a": 2}', 1) if what == "twice" else edited).encode()


@st.composite
def safetensors(draw: Any, content: bytes) -> bytes:
    """A file with another header of the right length."""
    length = int.from_bytes(content[:8], "little")
    header = draw(in_json(content[8 : 8 + length]))
    return struct.pack("<Q", len(header)) + header + content[8 + length :]


def _opcodes(pickled: bytes) -> list[bytes]:
    places = [place for _, _, place in pickletools.genops(pickled)] + [len(pickled)]
    return [pickled[begin:end] for begin, end in zip(places, places[1:])]  # noqa: RUF007


@st.composite
def in_pickle(draw: Any, pickled: bytes) -> bytes:
    """A pickle with opcodes left out, doubled, swapped, changed or replaced by hostile ones."""
    opcodes = _opcodes(pickled)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(opcodes) - 1))
        what = draw(st.sampled_from(["out", "twice", "swap", "hostile", "instead", "number"]))
        if what == "out":
            opcodes[at] = b""
        elif what == "twice":
            opcodes.insert(at, opcodes[at])
        elif what == "swap":
            other = draw(st.integers(0, len(opcodes) - 1))
            opcodes[at], opcodes[other] = opcodes[other], opcodes[at]
        elif what == "number":
            where = [i for i, opcode in enumerate(opcodes) if opcode[:1] in (b"K", b"M", b"J")]
            if where:
                opcodes[draw(st.sampled_from(where))] = plain(draw(numbers) - draw(st.sampled_from([0, 2**63])))
        else:
            hostile = draw(st.sampled_from(HOSTILE))
            opcodes[at] = hostile if what == "instead" else hostile + opcodes[at]
    return b"".join(opcodes)


@st.composite
def torch_zip(draw: Any, content: bytes) -> bytes:
    """An archive that is whole, with another pickle, or with members left out, renamed, doubled, cut or compressed."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [[member.filename, archive.read(member)] for member in archive.infolist()]
    if draw(st.integers(0, 3)):
        pickled = next(member for member in members if member[0].endswith("/data.pkl"))
        pickled[1] = draw(in_pickle(pickled[1]))
    else:
        member = draw(st.sampled_from(members))
        what = draw(st.sampled_from(["out", "name", "twice", "cut"]))
        if what == "out":
            members.remove(member)
        elif what == "name":
            member[0] = draw(st.one_of(st.text(max_size=12), st.sampled_from([other[0] for other in members])))
        elif what == "twice":
            members.append(member)
        else:
            member[1] = member[1][: draw(st.integers(0, len(member[1])))]
    stream = io.BytesIO()
    method = zipfile.ZIP_DEFLATED if draw(st.integers(0, 19)) == 0 else zipfile.ZIP_STORED
    with zipfile.ZipFile(stream, "w", method) as archive:
        for inner, bytes_of in members:
            archive.writestr(zipfile.ZipInfo(inner.encode("utf-8", "replace").decode()), bytes_of, method)
    return stream.getvalue()


@st.composite
def torch_legacy(draw: Any, content: bytes) -> bytes:
    """A file of the older form in which one of the five pickles is another."""
    stream = io.BytesIO(content)
    places = [0]
    for _ in range(5):
        for _ in pickletools.genops(stream):
            pass
        places.append(stream.tell())
    which = draw(st.sampled_from([0, 1, 2, 3, 3, 3, 3, 4]))
    begin, end = places[which : which + 2]
    return content[:begin] + draw(in_pickle(content[begin:end])) + content[end:]


@st.composite
def msgpack(draw: Any, content: bytes) -> bytes:
    """Every byte that can begin something is tried at a place where a code, a length or a small number stands."""
    codes = [i for i, byte in enumerate(content) if byte >= 0x80 or byte < 0x20]
    at = draw(st.sampled_from(codes))
    return content[:at] + bytes([draw(st.integers(0, 255))]) + content[at + draw(st.integers(0, 2)) :]
