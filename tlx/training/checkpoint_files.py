"""Reads what was saved of one step, and verifies it against the digests that were saved with it."""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from tlx.errors import TlxError, first_line, listed, no_memory
from tlx.files.strict_json import read_json
from tlx.params.paths import Tree, flatten, map_with_path
from tlx.training.digest import described, digests

FORMAT = 4  # version of the contents of `meta` and the items
RESUMABLE = (2, 3, 4)  # formats from which a run can continue
READABLE = (1, 2, 3, 4)  # formats whose parameters can be read
VERIFIED = 4  # the first format with digests
DIGESTS, CHECKSUM = "digests", "checksum"  # keys of `meta`

Digests = Mapping[str, Mapping[str, str]]  # by item and path
# Why a file that is whole may not be readable, as the texts of Orbax's and the system's errors say it.
PASSING = ("Permission denied", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "Out of memory", "Too many open files")


class Damaged(TlxError):
    """A checkpoint is damaged.

    Args:
      folder: the folder of the step.
      reason: what is wrong, a clause.

    Attributes:
      folder: as above.
      step: the step.
      reason: as above.
    """

    def __init__(self, folder: Path, reason: str):
        super().__init__(f"the checkpoint {folder} is damaged: {reason}.")
        self.folder, self.step, self.reason = folder, int(folder.name), reason


def signed(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values of `meta` with their checksum, as they are written."""
    plain = json.loads(json.dumps(meta))
    return {**plain, CHECKSUM: _checksum(plain)}


def _checksum(meta: Mapping[str, Any]) -> str:
    """SHA-256 of the values except the checksum, as JSON with sorted keys."""
    values = {name: value for name, value in meta.items() if name != CHECKSUM}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def read_meta(folder: Path) -> dict[str, Any]:
    """Returns the JSON values of a step.

    Args:
      folder: the folder of the step.

    Raises:
      Damaged: if they are damaged. Up to format 3 only a few kinds of damage are noticed.
      TlxError: if the format is unknown.
    """
    if not folder.is_dir():
        raise Damaged(folder, "its folder is missing")
    with _reading(folder, "meta"):
        try:
            meta = read_json(folder / "meta" / "metadata", "record of a checkpoint", finite=False)
        except TlxError as error:
            raise _classified(folder, "meta", error) from None
        version, has_checksum = meta.get("format"), bool({DIGESTS, CHECKSUM} & meta.keys())
        is_checked = has_checksum or (isinstance(version, int) and version >= VERIFIED)
        if is_checked and meta.get(CHECKSUM) != _checksum(meta):
            raise Damaged(folder, "meta does not have its checksum")
        if not isinstance(version, int):
            raise Damaged(folder, "meta names no format")
        if version not in READABLE:
            raise TlxError(f"{folder} has checkpoint format {version}; this tlx reads {listed(READABLE)}.")
        meta["loop"]["best"]  # all formats have this key
    return meta


def read_items(folder: Path, targets: Mapping[str, Tree], saved: Digests | None) -> dict[str, Tree]:
    """Returns items of a step, which are not yet verified.

    Args:
      folder: the folder of the step.
      targets: by item, a tree of `jax.ShapeDtypeStruct`s with shardings.
      saved: the digests of `meta`; None in earlier formats. The arrays then have the dtypes that they were saved with,
        otherwise those of `targets`.

    Raises:
      Damaged: if files are missing or cannot be read.
      TlxError: if the items do not fit `targets`, or the system refuses to read them.
    """
    handler, items = ocp.StandardCheckpointHandler(), {}
    for name, target in targets.items():
        if saved is not None:
            expected = saved.get(name, {})
            _compare(folder, name, {path: _shape(line) for path, line in expected.items()}, target)
            target = map_with_path(lambda path, leaf, lines=expected: _with_dtype(leaf, lines[path]), target)
        with _reading(folder, name):
            tree = handler.metadata(folder / name).tree
            shapes = {path: str(tuple(leaf.shape)) for path, leaf in flatten(tree).items()}
            if saved is None and name == "params":
                _compare(folder, name, shapes, target)
            elif saved is not None and shapes != {path: _shape(line) for path, line in expected.items()}:
                raise Damaged(folder, f"{name} does not have the arrays that were saved")
            items[name] = handler.restore(folder / name, args=ocp.args.StandardRestore(target))
    return items


def verified(folder: Path, items: Mapping[str, Tree], targets: Mapping[str, Tree], saved: Digests) -> dict[str, Tree]:
    """Returns the items of `read_items` with the dtypes of `targets`.

    All processes must call it together.

    Raises:
      Damaged: if an array is not what was saved.
    """
    found = {name: digests(tree) for name, tree in items.items()}
    wrong = [
        f"{name}/{path}"
        for name, lines in found.items()
        for path, line in lines.items()
        if saved.get(name, {}).get(path) != line
    ]
    if wrong:
        total = sum(len(lines) for lines in found.values())
        raise Damaged(folder, f"{wrong[0]} is not what was saved ({len(wrong)} of {total} arrays that were read)")
    return {
        name: jax.tree.map(
            lambda leaf, to: leaf if leaf.dtype == to.dtype else leaf.astype(to.dtype), tree, targets[name]
        )
        for name, tree in items.items()
    }


def saved_averages(folder: Path, item: str) -> Mapping[str, Any]:
    """Returns the shapes of the averages in an item of a step, by name; {} if there are none."""
    with _reading(folder, item):
        return ocp.StandardCheckpointHandler().metadata(folder / item).tree.get("averages") or {}


def _shape(line: str) -> str:
    """The shape in the line of a digest, which is `DTYPE (SHAPE) DIGITS`."""
    return line[line.index("(") : line.rindex(")") + 1]


def _with_dtype(leaf: jax.ShapeDtypeStruct, line: str) -> jax.ShapeDtypeStruct:
    """The leaf with the dtype in the line of a digest."""
    if line.startswith(described(leaf)):
        return leaf
    return jax.ShapeDtypeStruct(leaf.shape, jax.numpy.dtype(line.partition(" ")[0]), sharding=leaf.sharding)


def _compare(folder: Path, item: str, saved: Mapping[str, str], target: Tree) -> None:
    """Raises `TlxError` unless the saved arrays have the paths and shapes of `target`.

    Orbax would allocate the arrays first, and its message would only say that two trees differ.
    """
    expected = {path: str(tuple(leaf.shape)) for path, leaf in flatten(target).items()}
    if differing := sorted({path for path, _ in saved.items() ^ expected.items()}):
        path = differing[0]
        name = path if item == "params" else f"{item}/{path}"
        what = "parameters" if item == "params" else f"arrays of {item}"
        raise TlxError(
            f"{folder} does not fit its run's config: {name} is {saved.get(path, 'not there')}, expected "
            f"{expected.get(path, 'none')} ({len(differing)} of {len(expected)} {what} differ); bring back the "
            "config.json files as the run wrote them."
        )


@contextlib.contextmanager
def _reading(folder: Path, item: str) -> Iterator[None]:
    """Turns any exception that is raised for a damaged item into a `Damaged`. A lack of memory is no damage."""
    try:
        yield
    except TlxError:
        raise
    except Exception as error:
        if no_memory(error) is not None:
            raise
        raise _classified(folder, item, error) from error


def _classified(folder: Path, item: str, error: Exception) -> TlxError:
    """`Damaged`, or a `TlxError` if the files may be whole and only cannot be read now."""
    passing = any(text in str(error) for text in PASSING)
    kind = "" if isinstance(error, TlxError) else f"{type(error).__name__}: "
    what = f"{item} cannot be read ({kind}{first_line(error).rstrip('.')})"
    return TlxError(f"the checkpoint {folder}: {what}.") if passing else Damaged(folder, what)
