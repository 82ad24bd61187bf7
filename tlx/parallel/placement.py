"""Along which axis each parameter is cut over the devices of the mesh's axis `fsdp`, by ordered rules.

What belongs to a parameter (its moments, its average, its anchor) lies as the parameter does: a leaf of any tree whose
path ends in a parameter's path and that has its shape.
"""

import math
from collections.abc import Mapping
from typing import Any

from tlx.errors import TlxError
from tlx.params.kinds import KindTable
from tlx.params.paths import flatten
from tlx.params.rules import Rules, assign

LARGE = "large"  # LARGEST for leaves of at least LEAST elements, else WHOLE
LARGEST = "largest"  # along the largest axis that the devices divide; WHOLE if they divide none
WHOLE = "whole"  # on every device
LEAST = 2**16  # elements, 256 KiB in float32: below it a gather costs more than the memory is worth
SHIPPED: Rules = ((".*", LARGE),)

Axes = Mapping[str, tuple[tuple[int, ...], int | None]]  # of each path the shape, and the axis that is cut


def cut_axes(params: Any, ways: int, rules: Rules = (), kinds: KindTable | None = None) -> Axes:
    """The axis of each parameter that is cut into so many parts, None where it is whole.

    Args:
      params: arrays or their shapes.
      ways: into how many parts; 1 cuts nothing.
      rules: `(selector, value)`: "large", "largest", "whole", or the number of an axis.

    Raises:
      TlxError: a value that is none of these, an axis that a parameter lacks or that cannot be cut evenly.
    """
    shapes = {path: tuple(leaf.shape) for path, leaf in flatten(params).items()}
    chosen = assign(shapes, rules, shipped=SHIPPED, kinds=kinds, what="parallel.rules")
    axes = {path: _axis(path, shape, chosen[path], ways) for path, shape in shapes.items()}
    return {path: (shape, axes[path] if ways > 1 else None) for path, shape in shapes.items()}


def _axis(path: str, shape: tuple[int, ...], value: Any, ways: int) -> int | None:
    if value in (LARGE, LARGEST):
        dividing = [axis for axis, size in enumerate(shape) if size and size % ways == 0]
        small = value == LARGE and math.prod(shape) < LEAST
        return None if small or not dividing else max(dividing, key=lambda axis: shape[axis])
    if value == WHOLE:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise TlxError(f"parallel.rules: {value!r} is none of 'large', 'largest', 'whole' and the number of an axis.")
    if not 0 <= value < len(shape) or shape[value] % ways:
        raise TlxError(
            f"parallel.rules: {path} has the shape {shape}, whose axis {value} cannot be cut into {ways} equal parts."
        )
    return value


def axis_of(keys: tuple[Any, ...], shape: tuple[int, ...], axes: Axes) -> int | None:
    """The axis along which a leaf of a tree (a state, moments) is cut: that of the parameter it belongs to.

    keys: the leaf's path, as `jax.tree_util` gives it.
    """
    names = [str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", "")))) for key in keys]
    for start in range(len(names)):
        found = axes.get("/".join(names[start:]))
        if found is not None:
            return found[1] if found[0] == shape else None
    return None


def described(axis: int | None, ways: int) -> str:
    """For a table: `axis 0 / 4`, or `whole`."""
    return WHOLE if axis is None else f"axis {axis} / {ways}"
