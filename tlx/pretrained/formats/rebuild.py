"""Where the tensors of PyTorch's files are: records of storages and of views into them, from what a pickle says.

Source of the forms: torch/_utils.py (`_rebuild_tensor_v2` and its siblings) and torch/serialization.py
(`persistent_id`).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tlx.pretrained.formats.stored import BFLOAT16, bytes_of, refuse

KIND = "PyTorch file of tensors"
MOST_EXPANDED = 2**24  # bytes of a tensor that is larger than its storage, as torch's expand() makes them
DTYPES: dict[str, np.dtype] = {
    "torch.DoubleStorage": np.dtype("<f8"), "torch.FloatStorage": np.dtype("<f4"), "torch.HalfStorage": np.dtype("<f2"),
    "torch.BFloat16Storage": BFLOAT16, "torch.LongStorage": np.dtype("<i8"), "torch.IntStorage": np.dtype("<i4"),
    "torch.ShortStorage": np.dtype("<i2"), "torch.CharStorage": np.dtype("i1"), "torch.ByteStorage": np.dtype("u1"),
    "torch.BoolStorage": np.dtype("?"),
}  # fmt: skip
FUNCTIONS = {
    "collections.OrderedDict", "torch.Size",
    "torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter",
}  # fmt: skip


@dataclass(frozen=True)
class Name:
    """One of `FUNCTIONS` or `DTYPES`; what it names is not imported."""

    full: str


@dataclass(frozen=True)
class Storage:
    """Numbers in the file, under a key."""

    key: str
    dtype: np.dtype
    count: int


@dataclass(frozen=True)
class Tensor:
    """A view of a storage; offset and strides count elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def storage_of(told: Any, file: Path) -> Storage:
    """From ("storage", class, key, device, count), in the older form with a last None."""
    if type(told) is tuple and len(told) == 6 and told[5] is None:
        told = told[:5]
    expected = (str, Name, str, str, int)
    if type(told) is not tuple or tuple(map(type, told)) != expected or told[0] != "storage":
        refuse(file, KIND, "it describes a storage in a way that tlx does not know")
    if told[1].full not in DTYPES or bytes_of(told[4:], DTYPES[told[1].full]) is None:
        refuse(file, KIND, f"it has a storage of {told[4]} numbers of the class {told[1].full!r}")
    return Storage(told[2], DTYPES[told[1].full], told[4])


def call(function: Any, arguments: Any, file: Path) -> Any:
    """What one of `FUNCTIONS` would give; it is not called."""
    if type(function) is not Name or function.full not in FUNCTIONS or type(arguments) is not tuple:
        refuse(file, KIND, "a pickle in it calls something that is no function of tensors")
    short, count = function.full.rpartition(".")[2], len(arguments)
    if short == "OrderedDict" and count == 0:
        return {}
    if short == "Size" and count == 1 and type(arguments[0]) is tuple:
        return arguments[0]
    if short == "_rebuild_parameter" and count == 3 and type(arguments[0]) is Tensor:
        return arguments[0]
    if (short == "_rebuild_tensor" and count == 4) or (short == "_rebuild_tensor_v2" and count in (6, 7)):
        return _view(file, *arguments[:4])
    refuse(file, KIND, f"a pickle in it calls {function.full} in a way that tlx does not know")


def _view(file: Path, storage: Any, offset: Any, shape: Any, strides: Any) -> Tensor:
    """A tensor that lies in its storage."""
    if not (type(storage) is Storage and type(offset) is int and type(shape) is type(strides) is tuple):
        refuse(file, KIND, "it describes a tensor in a way that tlx does not know")
    size = bytes_of(shape, storage.dtype)
    if size is None or offset < 0 or len(shape) != len(strides) or not all(map(_is_stride, strides)):
        refuse(file, KIND, "it has a tensor with a shape, an offset or strides that no array has")
    last = offset + sum((length - 1) * stride for length, stride in zip(shape, strides)) if size else offset - 1
    if last >= storage.count:
        refuse(file, KIND, f"it has a tensor that reaches to number {last} of a storage of {storage.count}")
    if size > max(storage.count * storage.dtype.itemsize, MOST_EXPANDED):
        refuse(file, KIND, f"it has a tensor of {size} bytes that repeats a storage of {storage.count} numbers")
    return Tensor(storage, offset, shape, strides)


def _is_stride(stride: object) -> bool:
    return type(stride) is int and 0 <= stride < 2**56  # in bytes it is to fit 64 bits, used or not
