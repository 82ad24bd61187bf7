"""`pytorch_model.bin`: what `torch.save` writes of a dict of tensors, as a zip archive or in the form before torch 1.6.

Format: torch/serialization.py (`_save`, `_legacy_save`). Both hold a pickle that says where each tensor is, and the
storages as they are in memory; the pickle is followed by `pickled.py`, the storages are mapped.
"""

from io import BytesIO
from pathlib import Path
from typing import Any

from tlx.pretrained.formats.pickled import MOST_BYTES, follow
from tlx.pretrained.formats.rebuild import KIND, Storage, Tensor
from tlx.pretrained.formats.stored import Stored, mapped, refuse, stored_at
from tlx.pretrained.formats.zip_file import zip_members

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001


def read_torch(file: Path) -> dict[str, Stored]:
    """The tensors of a PyTorch file, by name; nothing in it is executed.

    Raises:
      TlxError: the file is broken, holds anything but a flat dict of tensors, or was written by torch before 0.1.10.
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
    """Tensors, and the offset of each storage, of `NAME/data.pkl` and `NAME/data/KEY`."""
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
    tensors = _tensors(follow(BytesIO(data[offset : offset + size]), file), file)
    offsets = {}
    # What zip says of the bytes' sum (CRC-32) is not looked at: torch does not either, and can be told to write none.
    for tensor in tensors.values():
        storage = tensor.storage
        offsets[storage.key], found = members.get(f"{inner[0]}data/{storage.key}", (0, -1))
        _check_size(storage, found, file)
    return tensors, offsets


def _from_stream(data: memoryview, file: Path) -> tuple[dict[str, Tensor], dict[str, int]]:
    """Of the older form: magic number, protocol, the writer's machine, tensors, keys; then counts and storages."""
    stream = BytesIO(data[: 2 * MOST_BYTES])
    if bytes(data[:1]) != b"\x80" or follow(stream, file) != MAGIC:
        refuse(file, KIND, "it begins neither as a zip archive nor with torch's magic number")
    if follow(stream, file) != PROTOCOL:
        refuse(file, KIND, f"its protocol is not {PROTOCOL}")
    machine = follow(stream, file)
    if type(machine) is not dict or machine.get("little_endian") is not True:
        refuse(file, KIND, "its numbers are not little-endian")
    tensors = _tensors(follow(stream, file), file)
    return tensors, _offsets(data, tensors, follow(stream, file), stream.tell(), file)


def _offsets(data: memoryview, tensors: dict[str, Tensor], keys: Any, at: int, file: Path) -> dict[str, int]:
    """Where each storage's numbers are; each is its count in eight bytes, and they."""
    storages: dict[str, Storage] = {}
    for tensor in tensors.values():  # the count is in numbers of the type that is met first
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


def _check_size(storage: Storage, found: int, file: Path) -> None:
    expected = storage.count * storage.dtype.itemsize
    if found != expected:
        there = f"{found} bytes are there" if found >= 0 else "it is not there"
        refuse(file, KIND, f"the storage {storage.key!r:.100} should have {expected} bytes, but {there}")


def _tensors(found: Any, file: Path) -> dict[str, Tensor]:
    """What was found, if it is a flat dict of tensors."""
    if type(found) is not dict:
        refuse(file, KIND, f"it holds a {type(found).__name__}, where a dict of tensors was expected")
    for name, value in found.items():
        if type(value) is not Tensor:
            what = "None" if value is None else f"a {type(value).__name__}"
            refuse(file, KIND, f"it holds {what} under {name!r:.100}, where a flat dict of tensors was expected")
    if not found:
        refuse(file, KIND, "it holds no tensor")
    return found
