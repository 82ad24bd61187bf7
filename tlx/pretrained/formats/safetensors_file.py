"""safetensors: eight bytes of length, a JSON header with every tensor's place, and the tensors.

Format: https://github.com/huggingface/safetensors#format
"""

from pathlib import Path
from typing import Any

import numpy as np

from tlx.files.strict_json import MOST_BYTES, parse
from tlx.pretrained.formats.stored import BFLOAT16, Stored, bytes_of, mapped, refuse, stored_at

# The header is read here and not by the safetensors library: that copies each tensor to the heap, has no bfloat16 for
# numpy, takes a name that stands twice, and says what is wrong in its own terms. The rules are its own: tensors follow
# each other without holes up to the file's end.
KIND = "whole safetensors file"
DTYPES: dict[str, np.dtype] = {
    "F64": np.dtype("<f8"), "F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": BFLOAT16, "BOOL": np.dtype("?"),
    "I64": np.dtype("<i8"), "I32": np.dtype("<i4"), "I16": np.dtype("<i2"), "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"), "U32": np.dtype("<u4"), "U16": np.dtype("<u2"), "U8": np.dtype("u1"),
}  # fmt: skip


def read_safetensors(file: Path) -> dict[str, Stored]:
    """The tensors of a safetensors file, by name.

    Raises:
      TlxError: the file is cut off, its header disagrees with its bytes, or a dtype is none of numpy's and bfloat16.
    """
    data = mapped(file)
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > len(data) - 8:
        refuse(file, KIND, f"its header claims {length} bytes of a file that has {len(data)}")
    if length > MOST_BYTES:  # before they are copied
        refuse(file, KIND, f"its header claims {length} bytes, more than {MOST_BYTES}")
    header = parse(bytes(data[8 : 8 + length]), file, KIND)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        refuse(file, KIND, "its __metadata__ is no mapping from texts to texts")
    places = {name: _place(name, told, file) for name, told in header.items()}
    _check_without_holes(places, len(data) - 8 - length, file)
    return {
        name: stored_at(data, 8 + length + begin, tuple(header[name]["shape"]), DTYPES[header[name]["dtype"]])
        for name, (begin, _) in places.items()
    }


def _place(name: str, told: Any, file: Path) -> tuple[int, int]:
    """Begin and end of a tensor, in bytes from the header's end."""
    if not isinstance(told, dict) or told.keys() != {"dtype", "shape", "data_offsets"}:
        refuse(file, KIND, f"of the tensor {name!r:.100} it does not tell dtype, shape and data_offsets")
    if not isinstance(told["dtype"], str) or told["dtype"] not in DTYPES:
        what = f"{told['dtype']!r:.40}" if isinstance(told["dtype"], str) else f"a {type(told['dtype']).__name__}"
        refuse(file, KIND, f"the tensor {name!r:.100} has the dtype {what}; expected was one of {[*DTYPES]}")
    dtype, shape, offsets = DTYPES[told["dtype"]], told["shape"], told["data_offsets"]
    if not isinstance(offsets, list) or len(offsets) != 2 or any(type(place) is not int for place in offsets):
        refuse(file, KIND, f"the data_offsets of the tensor {name!r:.100} are no two whole numbers")
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
