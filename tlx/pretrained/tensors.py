"""The tensors of a checkpoint in any supported format.

They have the names of today's transformers, without the family's prefix, and are read one at a time.
"""

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

# The shape of a tensor in the file, and the function that converts it to the leaf
Carry = tuple[tuple[int, ...], Callable[[jax.Array], jax.Array]]

MOST = 5  # names of each kind that a message lists
WRAPPERS = ("module.", "_orig_mod.")  # the prefixes that torch's DataParallel and torch.compile add to every name


def wrapping(names: Sequence[str]) -> str:
    """Returns the prefix that PyTorch's wrappers added to every name; "" if there is none."""
    prefix = ""
    while names and (more := [w for w in WRAPPERS if all(name.startswith(prefix + w) for name in names)]):
        prefix += more[0]
    return prefix


class Tensors:
    """The tensors of one checkpoint.

    Args:
      folder: the checkpoint's folder.
      model_type: the family's name in `config.json`.

    Attributes:
      folder: as above.
      file: the file of weights, for messages.
      names: the family's table of names.
      flax: whether the file uses Flax's names and shapes.
      stored: the tensors by name, without the family's prefix.

    Raises:
      TlxError: the weights are missing or damaged, or hold one tensor under two names.
    """

    def __init__(self, folder: Path, model_type: str):
        opened = open_tensors(folder)
        self.folder, self.file, self.names = folder, opened.file, names_of(model_type)
        self.flax = opened.kind == "msgpack"
        dotted = {name: name.replace("/", ".") if self.flax else name for name in opened.tensors}
        wrapper_length = len(wrapping(list(dotted.values())))
        current = {name: self.names.current_name(text[wrapper_length:]) for name, text in dotted.items()}
        first: dict[str, str] = {}  # name without the prefix -> name in the file
        duplicates = [
            name
            for name, today in current.items()
            if first.setdefault(today.removeprefix(self.names.prefix), name) != name
        ]
        if duplicates:
            raise TlxError(f"{self.file} holds twice, under an older or another name: {listed(sorted(duplicates))}.")
        self.stored = {bare: opened.tensors[name] for bare, name in first.items()}

    def check_block_count(self, blocks: int) -> None:
        """Checks a config's number of blocks: each block has tensors, so there are at least as many tensors.

        Raises:
          TlxError: the config claims more blocks than there are tensors.
        """
        if blocks > len(self.stored):
            raise TlxError(
                f"{self.folder}/config.json claims {blocks} blocks, but {self.file.name} holds {len(self.stored)} "
                "tensors."
            )

    def outputs_of(self, layer: str) -> int | None:
        """Returns how many outputs a head's dense layer has in this file; None if the file lacks the layer."""
        bias = self.stored.get(f"{layer}.bias")
        return bias.shape[0] if bias is not None and len(bias.shape) == 1 else None

    def load(
        self,
        target: Any,
        initialise: Sequence[str],
        ignore: Sequence[str],
        head: Head | None,
        read_heads: bool,
        dtype: Dtype,
        conversions: Mapping[str, Carry] | None = None,
    ) -> dict[str, Any]:
        """Reads the tensor of every parameter.

        Args:
          target: the shapes of the parameters, as a tree.
          initialise: selectors of parameters that may be missing or have another shape in the file.
          ignore: regexes on names of tensors in the file that no parameter needs to use.
          head: the checkpoint's head, which is called `default` in the model.
          read_heads: whether heads are read from the file; if not, all heads are new.
          dtype: the dtype of the returned arrays.
          conversions: for each path, a function that converts a tensor of another shape to the parameter.

        Returns:
          An array for each path of `target`; None where the parameter has to be initialized.

        Raises:
          TlxError: tensors are missing, unused or have another shape.
        """
        suffix = self.names.layers_of(head)
        conversions = conversions or {}
        from_file, missing, reshaped = {}, [], []
        # the file of an untied head holds a second bias, which is not read
        used = {self.names.tied_bias} if head is not None and not head.tied else set()
        for path, leaf in flatten(target).items():
            optional = any(matches(selector, path) for selector in initialise)
            new_head = path.startswith("heads/") and not read_heads
            name, transpose = ("", False) if new_head else self.names.tensor_of(path, suffix, self.flax)
            shape = self.stored[name].shape if name in self.stored else None
            expected = tuple(leaf.shape[axis] for axis in TO_TORCH[leaf.ndim]) if transpose else leaf.shape
            used.add(name)
            if shape == (conversions[path][0] if path in conversions else expected):
                from_file[path] = (name, transpose)
            elif shape is None and not optional:
                missing.append(name)
            elif not optional:
                reshaped.append(f"{name} {shape} (expected {expected})")
        self._refuse_mismatch(missing, self._unused(used, ignore, read_heads), reshaped, bool(from_file))
        arrays = {path: self._read(name, transpose, dtype) for path, (name, transpose) in from_file.items()}
        arrays |= {path: conversions[path][1](arrays[path]) for path in conversions if path in arrays}
        return {path: arrays.get(path) for path in flatten(target)}

    def _read(self, name: str, transpose: bool, dtype: Dtype) -> Any:
        """Returns a copy, because an array that shares the pages of a file would change with the file."""
        array = self.stored[name].read()
        return jnp.array(array.transpose(TO_LINEN[array.ndim]) if transpose else array, dtype, copy=True)

    def _unused(self, used: set[str], ignore: Sequence[str], read_heads: bool) -> list[str]:
        """Returns the tensors of the file that no parameter uses and that may not be ignored."""
        unused = [
            name
            for name in sorted(self.stored)
            if name not in used
            and not re.fullmatch(self.names.skipped, name)
            and not re.fullmatch(self.names.others, name)
            and (read_heads or not self.names.is_head_tensor(name))
        ]
        return [name for name in unused if not any(re.fullmatch(pattern, name) for pattern in ignore)]

    def _refuse_mismatch(self, missing: list[str], unused: list[str], reshaped: list[str], some_fit: bool) -> None:
        problems = [
            f"{what} {listed(names, MOST)}"
            for what, names in (("missing:", missing), ("left over:", unused), ("of another shape:", reshaped))
            if names
        ]
        if problems:
            advice = (
                "Name what may be initialized with initialise=… ('pooler', 'heads', 'all' or a regex on paths) and "
                "what may be left over with ignore=…."
            )
            if prefix := self._foreign_prefix(missing):
                advice = f"Every name in it begins with {prefix!r}: save it again with names without that."
            elif not some_fit:
                advice = "No tensor in it fits: is this the config.json of these weights?"
            raise TlxError(f"{self.file} does not fit this model; {'; '.join(problems)}. {advice}")

    def _foreign_prefix(self, missing: Sequence[str]) -> str | None:
        """Returns the prefix that a training script's wrapper added to all names.

        It is the first component of all names, without which missing tensors would be found; None if there is none.
        """
        prefix = f"{next(iter(self.stored), '').partition('.')[0]}."
        if not all(name.startswith(prefix) for name in self.stored):
            return None
        bare = {name.removeprefix(prefix).removeprefix(self.names.prefix) for name in self.stored}
        return prefix if bare & set(missing) else None
