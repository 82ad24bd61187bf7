"""Ordered rules for the axis along which each parameter is sharded over the mesh axis `fsdp`.

Values that belong to a parameter (its moments, its average) are sharded in the same way: these are the leaves of any
tree whose path ends with the parameter's path and whose shape is the same.
"""

import math
from collections.abc import Mapping
from typing import Any

from tlx.errors import TlxError
from tlx.params.kinds import KindTable
from tlx.params.paths import flatten
from tlx.params.rules import Rules, assign

LARGE = "large"  # LARGEST for leaves of at least LEAST elements, otherwise WHOLE
LARGEST = "largest"  # the largest axis that is divisible by the number of devices; WHOLE if there is none
WHOLE = "whole"  # replicated on every device
LEAST = 2**16  # elements, 256 KiB in float32: for smaller leaves the communication costs more than the memory saved
SHIPPED: Rules = ((".*", LARGE),)

Axes = Mapping[str, tuple[tuple[int, ...], int | None]]  # {path: (shape, sharded axis)}


def shard_axes(params: Any, shards: int, rules: Rules = (), kinds: KindTable | None = None) -> Axes:
    """Returns the shape and the sharded axis of each parameter; the axis is None for a replicated parameter.

    Args:
      params: the parameters, as arrays or shapes.
      shards: the number of shards; 1 for no sharding.
      rules: rules `(selector, value)`, where a value is "large", "largest", "whole" or the number of an axis.
      kinds: the family's table of kinds.

    Raises:
      TlxError: if a value is none of these, or an axis does not exist or is not divisible by the number of shards.
    """
    shapes = {path: tuple(leaf.shape) for path, leaf in flatten(params).items()}
    values = assign(shapes, rules, shipped=SHIPPED, kinds=kinds, what="parallel.rules")
    axes = {path: _axis(path, shape, values[path], shards) for path, shape in shapes.items()}
    return {path: (shape, axes[path] if shards > 1 else None) for path, shape in shapes.items()}


def _axis(path: str, shape: tuple[int, ...], value: Any, shards: int) -> int | None:
    if value in (LARGE, LARGEST):
        divisible = [axis for axis, size in enumerate(shape) if size and size % shards == 0]
        small = value == LARGE and math.prod(shape) < LEAST
        return None if small or not divisible else max(divisible, key=lambda axis: shape[axis])
    if value == WHOLE:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise TlxError(f"parallel.rules: a value must be 'large', 'largest', 'whole' or an axis; found {value!r}.")
    if not 0 <= value < len(shape) or shape[value] % shards:
        raise TlxError(
            f"parallel.rules: {path} has shape {shape}, whose axis {value} cannot be split into {shards} equal parts."
        )
    return value


def axis_of(keys: tuple[Any, ...], shape: tuple[int, ...], axes: Axes) -> int | None:
    """Returns the sharded axis of a leaf of any tree: that of the parameter it belongs to, or None.

    Args:
      keys: the key path of the leaf in `jax.tree_util`.
      shape: the shape of the leaf.
      axes: the shapes and sharded axes of the parameters.
    """
    names = [str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", "")))) for key in keys]
    for start in range(len(names)):
        shape_and_axis = axes.get("/".join(names[start:]))
        if shape_and_axis is not None:
            param_shape, axis = shape_and_axis
            return axis if param_shape == shape else None
    return None


def describe_sharding(axis: int | None, shards: int) -> str:
    """Returns a description for tables: `axis 0 / 4` (axis and number of shards), or `whole`."""
    return WHOLE if axis is None else f"axis {axis} / {shards}"
