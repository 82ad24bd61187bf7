"""Reads `flax_model.msgpack`: nested maps of arrays, as `flax.serialization` writes them.

Formats: https://github.com/msgpack/msgpack/blob/master/spec.md and flax/serialization.py. An array has the extension
type 1 (a scalar has type 3), which contains the msgpack of (shape, name of the dtype, bytes). An array of more than
1 GiB is a map of its shape and its chunks. This reader records where the bytes of an array are and does not copy them.
"""

from pathlib import Path
from typing import Any

import numpy as np

from tlx.pretrained.formats.stored import BFLOAT16, MOST_DIMENSIONS, Stored, bytes_of, mapped, refuse, stored_at

KIND = "msgpack file of arrays"
DEEPEST = 32
MOST_ENTRIES = 200_000
LONGEST_NAME = 1024  # the most characters of a path; nested long names would make a small file need much memory
CHUNKED = "__msgpack_chunked_array__"
DTYPES = {
    **{np.dtype(kind).name: np.dtype(kind) for kind in ("<f8", "<f4", "<f2", "?")},
    **{np.dtype(sign + width).name: np.dtype(f"<{sign}{width}") for sign in "iu" for width in "1248"},
    "bfloat16": BFLOAT16,
}
# First byte -> the type that follows, and the number of bytes of its length (for an integer: of its value)
LONG = {
    0xC4: ("bytes", 1), 0xC5: ("bytes", 2), 0xC6: ("bytes", 4), 0xC7: ("extension", 1), 0xC8: ("extension", 2),
    0xC9: ("extension", 4), 0xCC: ("integer", 1), 0xCD: ("integer", 2), 0xCE: ("integer", 4), 0xCF: ("integer", 8),
    0xD9: ("string", 1), 0xDA: ("string", 2), 0xDB: ("string", 4), 0xDC: ("list", 2), 0xDD: ("list", 4),
    0xDE: ("map", 2), 0xDF: ("map", 4),
}  # fmt: skip
# First byte -> the type that follows, and its length (for an integer or a boolean: its value)
SHORT = {
    **{0x00 + i: ("integer", i) for i in range(128)}, **{0x80 + i: ("map", i) for i in range(16)},
    **{0x90 + i: ("list", i) for i in range(16)}, **{0xA0 + i: ("string", i) for i in range(32)},
    **{0xD4 + i: ("extension", 2**i) for i in range(5)}, 0xC2: ("boolean", 0), 0xC3: ("boolean", 1),
}  # fmt: skip


def read_msgpack(file: Path) -> dict[str, Stored]:
    """Opens a msgpack file.

    Returns:
      The arrays by path; the names of a path are joined by "/".

    Raises:
      TlxError: the file is truncated or damaged, or holds anything but maps of arrays.
    """
    walk = Walk(mapped(file), file)
    kind, count = walk.head()
    if kind != "map":
        refuse(file, KIND, f"it holds a {kind}, where a map of arrays was expected")
    arrays: dict[str, Stored] = {}
    walk.flatten(walk.map(count, ""), "", arrays)
    if walk.at != len(walk.data):
        refuse(file, KIND, f"{len(walk.data) - walk.at} bytes follow its end")
    if not arrays:
        refuse(file, KIND, "it holds no array")
    return arrays


class Walk:
    """A parser that reads a file from its beginning to its end.

    Args:
      data: the bytes of the file.
      file: the file, for messages.

    Attributes:
      data: as above.
      file: as above.
      at: the position in bytes.
      entries: the number of entries of all maps so far.
    """

    def __init__(self, data: memoryview, file: Path):
        self.data, self.file = data, file
        self.at = self.entries = 0

    def take(self, count: int) -> memoryview:
        """Returns the next `count` bytes and moves behind them."""
        if count > len(self.data) - self.at:
            refuse(self.file, KIND, f"at byte {self.at} it claims {count} more, and has {len(self.data) - self.at}")
        self.at += count
        return self.data[self.at - count : self.at]

    def head(self) -> tuple[str, int]:
        """Reads the type of the next value, and its length (for an integer or a boolean: its value)."""
        first = self.take(1)[0]
        if first in SHORT:
            return SHORT[first]
        kind, width = LONG.get(first, ("value", 0))
        return kind, int.from_bytes(self.take(width), "big")

    def expect(self, expected: str, what: str) -> int:
        """Reads the length (or value) of the next value, which must have the expected type; `what` is for messages."""
        kind, length = self.head()
        if kind != expected:
            refuse(self.file, KIND, f"{what} is a {kind}, where a {expected} was expected")
        return length

    def text(self, what: str) -> str:
        """Reads a string; `what` is its name in messages."""
        length = self.expect("string", what)
        if length > LONGEST_NAME:
            refuse(self.file, KIND, f"{what} has {length} bytes")
        try:
            return bytes(self.take(length)).decode("utf-8")
        except UnicodeDecodeError:
            refuse(self.file, KIND, f"{what} is not a text")

    def map(self, count: int, path: str, depth: int = 1) -> dict[str, Any]:
        """Reads a map whose values are maps, arrays (as `Stored`) and numbers.

        Args:
          count: the number of its entries.
          path: its path.
          depth: the number of maps that it is in, itself included.
        """
        self.entries += count
        if depth > DEEPEST or self.entries > MOST_ENTRIES:
            refuse(self.file, KIND, f"it has more than {DEEPEST} maps in one another, or {MOST_ENTRIES} entries")
        values: dict[str, Any] = {}
        for _ in range(count):
            key = self.text(f"a name in {path!r:.100}")
            name = f"{path}/{key}" if path else key
            if key in values or not key or "/" in key or len(name) > LONGEST_NAME:
                what = "occurs twice" if key in values else "is empty, too long, or contains '/'"
                refuse(self.file, KIND, f"the name {name!r:.100} {what}")
            kind, length = self.head()
            if kind == "map":
                values[key] = self.map(length, name, depth + 1)
            elif kind == "extension":
                values[key] = self.array(length, name)
            elif kind in ("integer", "boolean"):
                values[key] = length
            else:
                refuse(self.file, KIND, f"under {name!r:.100} stands a {kind}, where an array was expected")
        return values

    def array(self, length: int, name: str) -> Stored:
        """Reads an array of `length` bytes; flax's scalars are arrays without dimensions."""
        if (code := self.take(1)[0]) not in (1, 3):
            refuse(self.file, KIND, f"{name!r:.100} has the extension type {code}, which is not an array of flax's")
        end = self.at + length
        count = self.expect("list", f"{name!r:.100}")
        dimensions = self.expect("list", f"the shape of {name!r:.100}") if count == 3 else MOST_DIMENSIONS + 1
        if dimensions > MOST_DIMENSIONS:
            refuse(self.file, KIND, f"{name!r:.100} is not made of a shape, a dtype and bytes")
        shape = tuple(self.expect("integer", f"the shape of {name!r:.100}") for _ in range(dimensions))
        dtype = self.text(f"the dtype of {name!r:.100}")
        if dtype not in DTYPES:
            refuse(self.file, KIND, f"{name!r:.100} has the dtype {dtype!r:.40}; expected one of {[*DTYPES]}")
        size = self.expect("bytes", f"the content of {name!r:.100}")
        begin = self.at
        self.take(size)
        if self.at != end or bytes_of(shape, DTYPES[dtype]) != size:
            refuse(self.file, KIND, f"{name!r:.100} has {size} bytes, which its length or shape contradicts")
        return stored_at(self.data, begin, shape, DTYPES[dtype])

    def flatten(self, tree: dict[str, Any], path: str, into: dict[str, Stored]) -> None:
        """Adds the arrays of a map to `into` by path; arrays in chunks are joined."""
        for key, value in tree.items():
            name = f"{path}/{key}" if path else key
            if isinstance(value, dict) and CHUNKED in value:
                into[name] = self.joined(value, name)
            elif isinstance(value, dict):
                self.flatten(value, name, into)
            elif isinstance(value, Stored):
                into[name] = value
            else:
                refuse(self.file, KIND, f"under {name!r:.100} stands a number, where an array was expected")

    def joined(self, tree: dict[str, Any], name: str) -> Stored:
        """Joins the chunks of a large array."""
        sizes, pieces = (_in_order(tree.get(key)) for key in ("shape", "chunks"))
        arrays = [piece for piece in pieces if isinstance(piece, Stored)]
        flat = arrays and all(len(piece.shape) == 1 and piece.dtype == arrays[0].dtype for piece in arrays)
        if tree.keys() != {CHUNKED, "shape", "chunks"} or not flat or len(arrays) != len(pieces):
            refuse(self.file, KIND, f"the pieces of {name!r:.100} are not those of one array")
        shape, dtype = tuple(sizes), arrays[0].dtype
        total = sum(piece.shape[0] for piece in arrays) * dtype.itemsize
        if bytes_of(shape, dtype) != total:
            refuse(self.file, KIND, f"the pieces of {name!r:.100} have {total} bytes, which its shape contradicts")
        return Stored(shape, dtype, lambda: np.concatenate([piece.read() for piece in arrays]).reshape(shape))


def _in_order(tree: Any) -> list[Any]:
    """Returns the values under "0", "1", …; an empty list if these are not the names."""
    names = [str(i) for i in range(len(tree))] if isinstance(tree, dict) else []
    return [tree[name] for name in names] if isinstance(tree, dict) and tree.keys() == set(names) else []
