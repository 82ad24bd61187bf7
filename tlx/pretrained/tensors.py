"""The tensors of a checkpoint, whatever its format, by today's names without the family's prefix; read one by one."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from tlx.errors import TlxError, listed
from tlx.models.heads import Head
from tlx.models.layers import Dtype
from tlx.params.paths import flatten
from tlx.params.rules import matches
from tlx.pretrained.formats.folder import open_tensors
from tlx.pretrained.names import TO_LINEN, TO_TORCH, names_of

Carry = tuple[tuple[int, ...], Callable[[jax.Array], jax.Array]]  # a tensor's shape, what makes the leaf of it

MOST = 5  # names of a kind that a message tells
WRAPPERS = ("module.", "_orig_mod.")  # of torch's DataParallel and of torch.compile, before every name of a model


def wrapping(names: Sequence[str]) -> str:
    """What PyTorch's wrappers have put before every name of a file; "" where they have not."""
    prefix = ""
    while names and (more := [w for w in WRAPPERS if all(name.startswith(prefix + w) for name in names)]):
        prefix += more[0]
    return prefix


class Tensors:
    """folder: the checkpoint's. model_type: of its family."""

    def __init__(self, folder: Path, model_type: str):
        opened = open_tensors(folder)
        self.folder, self.file, self.names = folder, opened.file, names_of(model_type)
        self.flax = opened.kind == "msgpack"
        joined = {name: name.replace("/", ".") if self.flax else name for name in opened.tensors}
        wrapped = len(wrapping(list(joined.values())))
        named = {name: self.names.today(text[wrapped:]) for name, text in joined.items()}
        first: dict[str, str] = {}
        twice = [
            name
            for name, today in named.items()
            if first.setdefault(today.removeprefix(self.names.prefix), name) != name
        ]
        if twice:
            raise TlxError(f"{self.file} holds twice, under an older or another name: {listed(sorted(twice))}.")
        self.stored = {bare: opened.tensors[name] for bare, name in first.items()}

    def refuse_absurd(self, blocks: int) -> None:
        """A config may claim anything; a block has tensors of its own, so there are no more blocks than tensors."""
        if blocks > len(self.stored):
            raise TlxError(
                f"{self.folder}/config.json claims {blocks} blocks, but {self.file.name} holds {len(self.stored)} "
                "tensors."
            )

    def outputs_of(self, layer: str) -> int | None:
        """How many outputs a head's dense layer has in this file; None if it is not there."""
        found = self.stored.get(f"{layer}.bias")
        return found.shape[0] if found is not None and len(found.shape) == 1 else None

    def load(
        self,
        target: Any,
        initialise: Sequence[str],
        ignore: Sequence[str],
        head: Head | None,
        own_heads: bool,
        dtype: Dtype,
        carried: Mapping[str, Carry] | None = None,
    ) -> dict[str, Any]:
        """Arrays by path for every leaf of `target`, None where it is to be drawn anew.

        head: the checkpoint's own, `default`. own_heads: whether heads are read from the file at all.
        carried: by path, what makes a leaf of a tensor of another shape.
        """
        suffix = self.names.layers_of(head)
        carry = carried or {}
        from_file, missing, reshaped = {}, [], []
        used = {self.names.tied_bias} if head is not None and not head.tied else set()  # a second one, not read there
        for path, leaf in flatten(target).items():
            fresh = any(matches(selector, path) for selector in initialise)
            new_head = path.startswith("heads/") and not own_heads
            name, transpose = ("", False) if new_head else self.names.tensor_of(path, suffix, self.flax)
            found = self.stored[name].shape if name in self.stored else None
            expected = tuple(leaf.shape[axis] for axis in TO_TORCH[leaf.ndim]) if transpose else leaf.shape
            used.add(name)
            if found == (carry[path][0] if path in carry else expected):
                from_file[path] = (name, transpose)
            elif found is None and not fresh:
                missing.append(name)
            elif not fresh:
                reshaped.append(f"{name} {found} (expected {expected})")
        self._complain(missing, self._left_over(used, ignore, own_heads), reshaped, bool(from_file))
        read = {path: self._read(*found, dtype) for path, found in from_file.items()}
        read |= {path: carry[path][1](read[path]) for path in carry if path in read}
        return {path: read.get(path) for path in flatten(target)}

    def _read(self, name: str, transpose: bool, dtype: Dtype) -> Any:
        """A copy: an array that shares a file's pages would change with the file."""
        array = self.stored[name].read()
        return jnp.array(array.transpose(TO_LINEN[array.ndim]) if transpose else array, dtype, copy=True)

    def _left_over(self, used: set[str], ignore: Sequence[str], own_heads: bool) -> list[str]:
        left = [
            name
            for name in sorted(self.stored)
            if name not in used
            and not re.fullmatch(self.names.skipped, name)
            and not re.fullmatch(self.names.others, name)
            and (own_heads or not self.names.in_a_head(name))
        ]
        return [name for name in left if not any(re.fullmatch(pattern, name) for pattern in ignore)]

    def _complain(self, missing: list[str], left: list[str], reshaped: list[str], some_fit: bool) -> None:
        found = [
            f"{what} {listed(names, MOST)}"
            for what, names in (("missing:", missing), ("left over:", left), ("of another shape:", reshaped))
            if names
        ]
        if found:
            advice = (
                "Name what may be drawn anew with initialise=… ('pooler', 'heads', 'all' or a regex on paths) and what "
                "may be left over with ignore=…."
            )
            if prefix := self._foreign_prefix(missing):
                advice = f"Every name in it begins with {prefix!r}: save it again with names without that."
            elif not some_fit:
                advice = "Not one tensor of it fits: is this the config.json of these weights?"
            raise TlxError(f"{self.file} does not fit this model; {'; '.join(found)}. {advice}")

    def _foreign_prefix(self, missing: Sequence[str]) -> str | None:
        """What all names begin with and what is missing would be found without; some training scripts' wrapper."""
        prefix = f"{next(iter(self.stored), '').partition('.')[0]}."
        if not all(name.startswith(prefix) for name in self.stored):
            return None
        bare = {name.removeprefix(prefix).removeprefix(self.names.prefix) for name in self.stored}
        return prefix if bare & set(missing) else None
