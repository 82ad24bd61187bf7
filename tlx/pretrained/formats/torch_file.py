"""Reads `pytorch_model.bin`: a dict of tensors as `torch.save` writes it, in the current or the older format.

Format: torch/serialization.py (`_save`, `_legacy_save`). The current format is a zip archive; the older one was written
before torch 1.6. Both consist of a pickle, which describes where each tensor is, and of the storages' bytes. The pickle
is interpreted by `pickled.py`, and the storages are mapped into memory.
"""

from io import BytesIO
from pathlib import Path
from typing import Any

from tlx.pretrained.formats.pickled import MOST_BYTES, read_pickle
from tlx.pretrained.formats.rebuild import KIND, Storage, Tensor
from tlx.pretrained.formats.stored import Stored, mapped, refuse, stored_at
from tlx.pretrained.formats.zip_file import zip_members

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001


def read_torch(file: Path) -> dict[str, Stored]:
    """Opens a PyTorch file. Nothing in it is executed.

    Returns:
      The tensors by name.

    Raises:
      TlxError: the file is damaged, holds anything but a flat dict of tensors, or was written by torch before 0.1.10.
    """
    data = mapped(file)
    if bytes(data[257:262]) == b"ustar":
        refuse(file, KIND, "it is a tar archive as PyTorch wrote them before 2017")
    tensors, offsets = _from_zip(data, file) if bytes(data[:2]) == b"PK" else _from_stream(data, file)
    return {name: _stored(data, tensor, offsets[tensor.storage.key]) for name, tensor in tensors.items()}


def _stored(data: memoryview, tensor: Tensor, begin: int) -> Stored:
    width = tensor.storage.dtype.itemsize
    strides = tuple(stride * width for stride in tensor.strides)
    return stored_at(data, begin + tensor.offset * width, tensor.shape, tensor.storage.dtype, strides)


def _from_zip(data: memoryview, file: Path) -> tuple[dict[str, Tensor], dict[str, int]]:
    """Returns the tensors, from `NAME/data.pkl`, and the offset of each storage, the member `NAME/data/KEY`."""
    members = zip_members(data, file)
    inner = [name.removesuffix("data.pkl") for name in members if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(inner) != 1:
        refuse(file, KIND, f"it is a zip archive with {len(inner)} files data.pkl, where torch.save writes one")
    offset, size = members.get(f"{inner[0]}byteorder", (0, 0))
    if size and bytes(data[offset : offset + size][:10]) != b"little":
        refuse(file, KIND, "its numbers are not little-endian")
    offset, size = members[f"{inner[0]}data.pkl"]
    if size > MOST_BYTES:
        refuse(file, KIND, f"its pickle has {size} bytes, more than {MOST_BYTES}")
    tensors = _tensors(read_pickle(BytesIO(data[offset : offset + size]), file), file)
    offsets = {}
    # The CRC-32 of the members is not checked: torch does not check it either, and has an option to write none.
    for tensor in tensors.values():
        storage = tensor.storage
        offsets[storage.key], size = members.get(f"{inner[0]}data/{storage.key}", (0, -1))
        _check_size(storage, size, file)
    return tensors, offsets


def _from_stream(data: memoryview, file: Path) -> tuple[dict[str, Tensor], dict[str, int]]:
    """Returns the tensors and the offset of each storage in the older format.

    The format consists of pickles of a magic number, the protocol, the writer's system, the tensors and the keys of the
    storages, followed by the count and the elements of each storage.
    """
    stream = BytesIO(data[: 2 * MOST_BYTES])
    if bytes(data[:1]) != b"\x80" or read_pickle(stream, file) != MAGIC:
        refuse(file, KIND, "it begins neither as a zip archive nor with torch's magic number")
    if read_pickle(stream, file) != PROTOCOL:
        refuse(file, KIND, f"its protocol is not {PROTOCOL}")
    system = read_pickle(stream, file)
    if type(system) is not dict or system.get("little_endian") is not True:
        refuse(file, KIND, "its numbers are not little-endian")
    tensors = _tensors(read_pickle(stream, file), file)
    return tensors, _offsets(data, tensors, read_pickle(stream, file), stream.tell(), file)


def _offsets(data: memoryview, tensors: dict[str, Tensor], keys: Any, at: int, file: Path) -> dict[str, int]:
    """Returns the offset of each storage's elements, which follow their count (eight bytes)."""
    storages: dict[str, Storage] = {}
    for tensor in tensors.values():  # the count is in elements of the first tensor's dtype
        storages.setdefault(tensor.storage.key, tensor.storage)
    if type(keys) is not list or any(type(key) is not str for key in keys) or sorted(keys) != sorted(storages):
        refuse(file, KIND, "the storages that it lists are not those of its tensors")
    offsets, sizes = {}, {}
    for key in keys:
        sizes[key] = int.from_bytes(data[at : at + 8], "little") * storages[key].dtype.itemsize
        offsets[key] = at + 8
        at += 8 + sizes[key]
    for tensor in tensors.values():
        _check_size(tensor.storage, sizes[tensor.storage.key], file)
    if at != len(data):
        refuse(file, KIND, f"its last storage should end at byte {at}, but the file has {len(data)}")
    return offsets


def _check_size(storage: Storage, size: int, file: Path) -> None:
    """Checks that a storage has as many bytes as its record says; `size` is -1 if it is missing."""
    expected = storage.count * storage.dtype.itemsize
    if size != expected:
        found = f"{size} bytes are there" if size >= 0 else "it is not there"
        refuse(file, KIND, f"the storage {storage.key!r:.100} should have {expected} bytes, but {found}")


def _tensors(content: Any, file: Path) -> dict[str, Tensor]:
    """Returns the content of a file after checking that it is a flat dict of tensors."""
    if type(content) is not dict:
        refuse(file, KIND, f"it holds a {type(content).__name__}, where a dict of tensors was expected")
    for name, value in content.items():
        if type(value) is not Tensor:
            what = "None" if value is None else f"a {type(value).__name__}"
            refuse(file, KIND, f"it holds {what} under {name!r:.100}, where a flat dict of tensors was expected")
    if not content:
        refuse(file, KIND, "it holds no tensor")
    return content
