"""Records of the storages and tensors (views of storages) in PyTorch's files, made from the content of a pickle.

Sources: torch/_utils.py (`_rebuild_tensor_v2` and similar functions) and torch/serialization.py (`persistent_id`).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tlx.pretrained.formats.stored import BFLOAT16, bytes_of, refuse

KIND = "PyTorch file of tensors"
MOST_EXPANDED = 2**24  # the most bytes of a tensor that is larger than its storage, as torch's expand() makes it
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
    """The name of a function or class; it is not imported.

    Attributes:
      full: the name with its module, one of `FUNCTIONS` or `DTYPES`.
    """

    full: str


@dataclass(frozen=True)
class Storage:
    """A flat array in the file.

    Attributes:
      key: the storage's key in the file.
      dtype: its dtype.
      count: the number of its elements.
    """

    key: str
    dtype: np.dtype
    count: int


@dataclass(frozen=True)
class Tensor:
    """A view of a storage.

    Attributes:
      storage: the storage.
      offset: the index of the first element in the storage.
      shape: the tensor's shape.
      strides: the tensor's strides in elements.
    """

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def storage_of(description: Any, file: Path) -> Storage:
    """Makes the record of a storage.

    Args:
      description: ("storage", class, key, device, count); the older format has a sixth element, which is None.
      file: the file, for messages.

    Raises:
      TlxError: the description has another form.
    """
    if type(description) is tuple and len(description) == 6 and description[5] is None:
        description = description[:5]
    expected = (str, Name, str, str, int)
    if type(description) is not tuple or tuple(map(type, description)) != expected or description[0] != "storage":
        refuse(file, KIND, "it describes a storage in a way that tlx does not know")
    _, storage_class, key, _, count = description
    if storage_class.full not in DTYPES or bytes_of((count,), DTYPES[storage_class.full]) is None:
        refuse(file, KIND, f"it has a storage of {count} numbers of the class {storage_class.full!r}")
    return Storage(key, DTYPES[storage_class.full], count)


def call(function: Any, arguments: Any, file: Path) -> Any:
    """Returns the result of one of `FUNCTIONS`, as a record; the function itself is not called.

    Args:
      function: the `Name` of the function.
      arguments: the tuple of its arguments.
      file: the file, for messages.

    Raises:
      TlxError: it is another function, or has other arguments than `torch.save` writes.
    """
    if type(function) is not Name or function.full not in FUNCTIONS or type(arguments) is not tuple:
        refuse(file, KIND, "a pickle in it calls something that is not a function for tensors")
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
    """Makes the record of a tensor after checking that it is within its storage."""
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
    return type(stride) is int and 0 <= stride < 2**56  # a stride in bytes has to fit into 64 bits
