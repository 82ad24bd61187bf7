"""Opens the weights in a checkpoint's folder, in one file or several, in any supported format."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tlx.errors import TlxError, listed
from tlx.files.strict_json import MOST_BYTES, parse
from tlx.pretrained.formats.msgpack_file import read_msgpack
from tlx.pretrained.formats.safe import inside
from tlx.pretrained.formats.safetensors_file import read_safetensors
from tlx.pretrained.formats.stored import Stored, mapped, refuse
from tlx.pretrained.formats.torch_file import read_torch

# Format -> name of the file, suffix of the files if there are several, and the function that reads one; preferred first
KINDS: dict[str, tuple[str, str, Callable[[Path], dict[str, Stored]]]] = {
    "safetensors": ("model.safetensors", ".safetensors", read_safetensors),
    "msgpack": ("flax_model.msgpack", ".msgpack", read_msgpack),
    "torch": ("pytorch_model.bin", ".bin", read_torch),
}
INDEX = "index of weights"


@dataclass(frozen=True)
class Opened:
    """The tensors of a checkpoint.

    Attributes:
      kind: the format, a key of `KINDS`.
      file: the file of weights, or the index, for messages.
      tensors: the tensors by their names in the file.
    """

    kind: str
    file: Path
    tensors: dict[str, Stored]


def open_tensors(folder: Path, kind: str | None = None) -> Opened:
    """Opens a checkpoint's weights without reading the tensors.

    Args:
      folder: the checkpoint's folder.
      kind: "safetensors", "msgpack" or "torch"; None: the first of these formats that the folder has. One file is
        preferred to several.

    Raises:
      TlxError: there are no weights; a file or the index is damaged; files are missing; a link leads out of the folder.
    """
    if kind is not None and kind not in KINDS:
        raise TlxError(f"there is no kind of weights {kind!r}; tlx reads {listed(KINDS)}.")
    kinds = list(KINDS) if kind is None else [kind]
    for kind in kinds:
        name, suffix, read = KINDS[kind]
        if _exists(folder / name):
            file = inside(folder, name)
            return Opened(kind, file, read(file))
        if _exists(folder / f"{name}.index.json"):
            file = inside(folder, f"{name}.index.json")
            return Opened(kind, file, _read_parts(folder, file, suffix, read))
    names = [f"{KINDS[kind][0]}{end}" for kind in kinds for end in ("", ".index.json")]
    raise TlxError(f"{folder} holds no weights; tlx reads {listed(names)}.")


def _exists(file: Path) -> bool:
    """Returns whether a folder has this entry, even if it is a broken link."""
    return file.is_symlink() or file.exists()


def _read_parts(folder: Path, index: Path, suffix: str, read: Callable[[Path], dict[str, Stored]]) -> dict[str, Stored]:
    """Reads the tensors of all files that an index names, and checks that each is in the file that the index gives."""
    names = _weight_map(index)
    parts = sorted(set(names.values()))
    if odd := [part for part in parts if not part.endswith(suffix)]:
        refuse(index, INDEX, f"it names {listed([f'{part!r:.100}' for part in odd])}, not ending in {suffix!r}")
    files = {part: inside(folder, part) for part in parts}
    if missing := [part for part, file in files.items() if not file.is_file()]:
        raise TlxError(f"{index} names files that are not there: {listed(missing, 40)}; download them too.")
    tensors: dict[str, Stored] = {}
    for part, file in files.items():
        tensors_of_part = read(file)
        expected = {name for name, where in names.items() if where == part}
        if lacking := sorted(expected - tensors_of_part.keys()):
            refuse(file, "part of these weights", f"{index.name} says that it holds {listed(lacking)}, and it does not")
        if unnamed := sorted(tensors_of_part.keys() - expected):
            refuse(file, "part of these weights", f"{index.name} does not say that it holds {listed(unnamed)}")
        tensors |= tensors_of_part
    return tensors


def _weight_map(index: Path) -> dict[str, str]:
    """Returns the file that each tensor is in."""
    data = mapped(index)
    if len(data) > MOST_BYTES:
        refuse(index, INDEX, f"it has {len(data)} bytes, more than {MOST_BYTES}")
    content: dict[str, Any] = parse(bytes(data), index, INDEX)
    names = content.get("weight_map")
    if not isinstance(names, dict) or not names or not all(isinstance(part, str) for part in names.values()):
        refuse(index, INDEX, "it has no weight_map from tensors to the files that they are in")
    return names
