"""Writes weights to files that transformers opens, as safetensors or Flax's msgpack, one tensor at a time."""

import json
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tlx.errors import TlxError
from tlx.pretrained.formats import msgpack_file, safetensors_file

SAFETENSORS = {dtype: name for name, dtype in safetensors_file.DTYPES.items()}
LARGEST_PIECE = 2**30  # the most bytes of one array in msgpack; flax writes and expects larger arrays in chunks


def write_safetensors(folder: Path, tensors: Mapping[str, np.ndarray], max_shard_bytes: int) -> list[str]:
    """Writes `model.safetensors`, or several files and their index.

    Args:
      folder: an existing folder.
      tensors: the tensors by name; their dtype is a float, an integer, bool or bfloat16.
      max_shard_bytes: the most bytes of the tensors in one file; a larger tensor gets a file of its own.

    Returns:
      The names of the files, the index last.

    Raises:
      TlxError: there are no tensors, or the format does not support the dtype of one.
    """
    _check(tensors, SAFETENSORS)

    def write(handle: BinaryIO, names: list[str]) -> None:
        _safetensors(handle, {name: tensors[name] for name in names})

    return _in_parts(folder, "model.safetensors", tensors, max_shard_bytes, write, _sizes)


def write_msgpack(folder: Path, tree: Mapping[str, Any], max_shard_bytes: int | None = None) -> list[str]:
    """Writes `flax_model.msgpack`, or several files and their index.

    Args:
      folder: an existing folder.
      tree: arrays in nested dicts.
      max_shard_bytes: see `write_safetensors`; None: one file.

    Returns:
      The names of the files, the index last.

    Raises:
      TlxError: there are no arrays, tlx cannot read the dtype of one, or a name is not a string or contains "/".
    """
    arrays = dict(_leaves(tree, ""))
    _check(arrays, set(msgpack_file.DTYPES.values()))

    def write(handle: BinaryIO, names: list[str]) -> None:
        part: dict[str, Any] = {}
        for name in names:
            *path, last = name.split("/")
            inner = part
            for key in path:
                inner = inner.setdefault(key, {})
            inner[last] = arrays[name]
        _map(handle, part)

    most = sum(array.nbytes for array in arrays.values()) if max_shard_bytes is None else max_shard_bytes
    return _in_parts(folder, "flax_model.msgpack", arrays, most, write, lambda arrays: {"total_size": _total(arrays)})


def _check(arrays: Mapping[str, np.ndarray], dtypes: Any) -> None:
    if not arrays:
        raise TlxError("there are no tensors to write; give some.")
    for name, array in arrays.items():
        if array.dtype not in dtypes:
            raise TlxError(f"tensor {name!r} has the dtype {array.dtype}, which the file's format lacks; convert it.")


def _in_parts(
    folder: Path,
    name: str,
    arrays: Mapping[str, np.ndarray],
    most: int,
    write: Callable[[BinaryIO, list[str]], None],
    metadata: Callable[[Mapping[str, np.ndarray]], dict[str, int]],
) -> list[str]:
    """Writes one file, or several called `STEM-00001-of-0000N.SUFFIX` and their index, in transformers' format."""
    from huggingface_hub import split_state_dict_into_shards_factory

    parts = split_state_dict_into_shards_factory(
        arrays,  # type: ignore[arg-type]
        get_storage_size=lambda array: array.nbytes,
        filename_pattern="{suffix}.".join(name.split(".")),
        max_shard_size=most,
    )
    files = [*parts.filename_to_tensors]
    for file, names in parts.filename_to_tensors.items():
        with (folder / file).open("wb") as handle:
            write(handle, names)
        (folder / file).chmod(0o644)
    if not parts.is_sharded:
        return files
    index = folder / f"{name}.index.json"
    content = {"metadata": metadata(arrays), "weight_map": parts.tensor_to_filename}
    index.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    index.chmod(0o644)
    return [*files, index.name]


def _total(arrays: Mapping[str, np.ndarray]) -> int:
    return sum(array.nbytes for array in arrays.values())


def _sizes(arrays: Mapping[str, np.ndarray]) -> dict[str, int]:
    return {"total_parameters": sum(array.size for array in arrays.values()), "total_size": _total(arrays)}


def _safetensors(handle: BinaryIO, tensors: dict[str, np.ndarray]) -> None:
    # The dtypes with the largest elements come first, so that every tensor is aligned to the size of its elements.
    names = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}  # transformers requires this entry
    at = 0
    for name in names:
        array = tensors[name]
        offsets = [at, at + array.nbytes]
        header[name] = {"dtype": SAFETENSORS[array.dtype], "shape": [*array.shape], "data_offsets": offsets}
        at += array.nbytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    handle.write(struct.pack("<Q", len(text)) + text)
    for name in names:
        handle.write(_bytes(tensors[name]))


def _bytes(array: np.ndarray) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _leaves(tree: Mapping[str, Any], path: str) -> Iterator[tuple[str, np.ndarray]]:
    for key, value in tree.items():
        if not isinstance(key, str) or not key or "/" in key:
            raise TlxError(f"{key!r} in {path!r} cannot be written: names are texts without '/'.")
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{path}{key}/")
        else:
            yield f"{path}{key}", np.asarray(value)


def _map(handle: BinaryIO, tree: Mapping[str, Any]) -> None:
    """Writes a map of maps, arrays, and the numbers that describe arrays in chunks."""
    import msgpack  # comes with flax

    handle.write(msgpack.Packer().pack_map_header(len(tree)))
    for key, value in tree.items():
        handle.write(msgpack.packb(key))
        if isinstance(value, np.ndarray) and value.nbytes > LARGEST_PIECE:
            value = _pieces(value)
        if isinstance(value, np.ndarray):
            inner = b"\x93" + msgpack.packb(value.shape) + msgpack.packb(value.dtype.name)
            inner += _length({1: b"\xc4", 2: b"\xc5", 4: b"\xc6"}, value.nbytes)
            length = len(inner) + value.nbytes
            handle.write(b"\xd8" if length == 16 else _length({1: b"\xc7", 2: b"\xc8", 4: b"\xc9"}, length))
            handle.write(b"\x01" + inner)
            handle.write(_bytes(value))
        elif isinstance(value, Mapping):
            _map(handle, value)
        else:
            handle.write(msgpack.packb(value))


def _length(codes: dict[int, bytes], length: int) -> bytes:
    """Returns a length in msgpack: the code for the smallest width that can hold it, and the length."""
    width = 1 if length < 2**8 else 2 if length < 2**16 else 4
    return codes[width] + length.to_bytes(width, "big")


def _pieces(array: np.ndarray) -> dict[str, Any]:
    """Returns a large array in the form that flax writes: a mark, its shape, and the chunks of the flat array."""
    flat = np.ascontiguousarray(array).reshape(-1)
    step = max(1, LARGEST_PIECE // array.dtype.itemsize)
    chunks = {str(i): flat[at : at + step] for i, at in enumerate(range(0, flat.size, step))}
    return {msgpack_file.CHUNKED: True, "shape": {str(i): n for i, n in enumerate(array.shape)}, "chunks": chunks}
