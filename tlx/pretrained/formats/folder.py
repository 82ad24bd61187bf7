"""The weights of a checkpoint's folder, in whichever file, or files, they are."""

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

# Kind -> name of the file, the end of the names of its parts, and what reads it; in the order of preference
KINDS: dict[str, tuple[str, str, Callable[[Path], dict[str, Stored]]]] = {
    "safetensors": ("model.safetensors", ".safetensors", read_safetensors),
    "msgpack": ("flax_model.msgpack", ".msgpack", read_msgpack),
    "torch": ("pytorch_model.bin", ".bin", read_torch),
}
INDEX = "index of weights"


@dataclass(frozen=True)
class Opened:
    """The tensors of a checkpoint by the names they have there, and the file to name in errors."""

    kind: str
    file: Path
    tensors: dict[str, Stored]


def open_tensors(folder: Path, kind: str | None = None) -> Opened:
    """Opens a checkpoint's weights; no tensor is read yet.

    Args:
      folder: of the checkpoint.
      kind: "safetensors", "msgpack" or "torch"; None takes the first of these that is there, one file before several.

    Raises:
      TlxError: no weights, a broken file or index, missing parts, or a link out of the folder.
    """
    if kind is not None and kind not in KINDS:
        raise TlxError(f"there is no kind of weights {kind!r}; tlx reads {listed(KINDS)}.")
    kinds = list(KINDS) if kind is None else [kind]
    for chosen in kinds:
        name, suffix, read = KINDS[chosen]
        if _there(folder / name):
            file = inside(folder, name)
            return Opened(chosen, file, read(file))
        if _there(folder / f"{name}.index.json"):
            file = inside(folder, f"{name}.index.json")
            return Opened(chosen, file, _read_parts(folder, file, suffix, read))
    names = [f"{KINDS[chosen][0]}{end}" for chosen in kinds for end in ("", ".index.json")]
    raise TlxError(f"{folder} holds no weights; tlx reads {listed(names)}.")


def _there(file: Path) -> bool:
    """Whether a folder has this entry, be it a link that leads nowhere."""
    return file.is_symlink() or file.exists()


def _read_parts(folder: Path, index: Path, suffix: str, read: Callable[[Path], dict[str, Stored]]) -> dict[str, Stored]:
    """The tensors of all parts that an index names, each from the part where it should be."""
    names = _weight_map(index)
    parts = sorted(set(names.values()))
    if odd := [part for part in parts if not part.endswith(suffix)]:
        refuse(index, INDEX, f"it names {listed([f'{part!r:.100}' for part in odd])}, not ending in {suffix!r}")
    files = {part: inside(folder, part) for part in parts}
    if missing := [part for part, file in files.items() if not file.is_file()]:
        raise TlxError(f"{index} names files that are not there: {listed(missing, 40)}; download them too.")
    tensors: dict[str, Stored] = {}
    for part, file in files.items():
        found = read(file)
        expected = {name for name, where in names.items() if where == part}
        if lacking := sorted(expected - found.keys()):
            refuse(file, "part of these weights", f"{index.name} says that it holds {listed(lacking)}, and it does not")
        if unnamed := sorted(found.keys() - expected):
            refuse(file, "part of these weights", f"{index.name} does not say that it holds {listed(unnamed)}")
        tensors |= found
    return tensors


def _weight_map(index: Path) -> dict[str, str]:
    """The part that each tensor is in."""
    data = mapped(index)
    if len(data) > MOST_BYTES:
        refuse(index, INDEX, f"it has {len(data)} bytes, more than {MOST_BYTES}")
    told: dict[str, Any] = parse(bytes(data), index, INDEX)
    names = told.get("weight_map")
    if not isinstance(names, dict) or not names or not all(isinstance(part, str) for part in names.values()):
        refuse(index, INDEX, "it has no weight_map from tensors to the files that they are in")
    return names
