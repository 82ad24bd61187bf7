"""Reads safetensors files: the length of the header (8 bytes), a JSON header that locates each tensor, and the tensors.

Format: https://github.com/huggingface/safetensors#format
"""

from pathlib import Path
from typing import Any

import numpy as np

from tlx.files.strict_json import MOST_BYTES, parse
from tlx.pretrained.formats.stored import BFLOAT16, Stored, bytes_of, mapped, refuse, stored_at

# The safetensors library is not used, because it copies each tensor to the heap, has no bfloat16 for NumPy, accepts
# duplicate names, and has error messages of its own. The checks are the same as the library's: tensors follow each
# other without holes up to the end of the file.
KIND = "safetensors file"
DTYPES: dict[str, np.dtype] = {
    "F64": np.dtype("<f8"), "F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": BFLOAT16, "BOOL": np.dtype("?"),
    "I64": np.dtype("<i8"), "I32": np.dtype("<i4"), "I16": np.dtype("<i2"), "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"), "U32": np.dtype("<u4"), "U16": np.dtype("<u2"), "U8": np.dtype("u1"),
}  # fmt: skip


def read_safetensors(file: Path) -> dict[str, Stored]:
    """Opens a safetensors file.

    Returns:
      The tensors by name.

    Raises:
      TlxError: the file is truncated, its header contradicts its content, or a dtype is not supported.
    """
    data = mapped(file)
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > len(data) - 8:
        refuse(file, KIND, f"its header claims {length} bytes of a file that has {len(data)}")
    if length > MOST_BYTES:  # checked before the header is copied
        refuse(file, KIND, f"its header claims {length} bytes, more than {MOST_BYTES}")
    header = parse(bytes(data[8 : 8 + length]), file, KIND)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        refuse(file, KIND, "its __metadata__ is not a mapping from texts to texts")
    places = {name: _place(name, entry, file) for name, entry in header.items()}
    _check_without_holes(places, len(data) - 8 - length, file)
    return {
        name: stored_at(data, 8 + length + begin, tuple(header[name]["shape"]), DTYPES[header[name]["dtype"]])
        for name, (begin, _) in places.items()
    }


def _place(name: str, entry: Any, file: Path) -> tuple[int, int]:
    """Returns where a tensor begins and ends, in bytes after the header; `entry` is its entry in the header."""
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        refuse(file, KIND, f"its header does not give dtype, shape and data_offsets of the tensor {name!r:.100}")
    if not isinstance(entry["dtype"], str) or entry["dtype"] not in DTYPES:
        what = f"{entry['dtype']!r:.40}" if isinstance(entry["dtype"], str) else f"a {type(entry['dtype']).__name__}"
        refuse(file, KIND, f"the tensor {name!r:.100} has the dtype {what}; expected one of {[*DTYPES]}")
    dtype, shape, offsets = DTYPES[entry["dtype"]], entry["shape"], entry["data_offsets"]
    if not isinstance(offsets, list) or len(offsets) != 2 or any(type(place) is not int for place in offsets):
        refuse(file, KIND, f"the data_offsets of the tensor {name!r:.100} are not two whole numbers")
    begin, end = offsets
    size = bytes_of(shape, dtype) if isinstance(shape, list) else None
    if size is None:
        refuse(file, KIND, f"the tensor {name!r:.100} has a shape that no array has")
    if begin < 0 or end - begin != size:
        refuse(file, KIND, f"the tensor {name!r:.100} has {end - begin} bytes, but {shape} of {dtype} takes {size}")
    if begin % dtype.itemsize:
        refuse(file, KIND, f"the tensor {name!r:.100} begins at {begin}, misaligned for {dtype}")
    return begin, end


def _check_without_holes(places: dict[str, tuple[int, int]], length: int, file: Path) -> None:
    reached = 0
    for name, (begin, end) in sorted(places.items(), key=lambda item: item[1]):
        if begin != reached:
            what = "overlaps the one before it" if begin < reached else "leaves a hole before it"
            refuse(file, KIND, f"the tensor {name!r:.100} begins at {begin}, where {reached} was expected, and {what}")
        reached = end
    if reached != length:
        refuse(file, KIND, f"its tensors take {reached} bytes, but {length} follow the header")
