"""The mapped axis of a step with `parallel.mode=pmap`, in which each device runs the step on its own rows of the batch.

With `parallel.mode=jit`, and in evaluation, the axis is not bound; `summed` and `gathered` then return their argument
unchanged.
"""

from typing import Any

import jax

DEVICES = "devices"


def device_index() -> jax.Array | None:
    """Returns the index of this device along the axis, int32 (); None if the axis is not bound."""
    try:
        return jax.lax.axis_index(DEVICES)
    except NameError:
        return None


def summed(tree: Any) -> Any:
    """Sums each leaf over the devices; returns the tree unchanged if the axis is not bound."""
    return tree if device_index() is None else jax.lax.psum(tree, DEVICES)


def on_any(flag: jax.Array) -> jax.Array:
    """Returns whether a flag, bool, is True on any device; returns the flag unchanged if the axis is not bound."""
    return flag if device_index() is None else jax.lax.pmax(flag.astype("int32"), DEVICES) > 0


def gathered(tree: Any) -> Any:
    """Returns the rows of all devices of each leaf, (rows of the batch, …), in the order of the batch."""
    return tree if device_index() is None else jax.lax.all_gather(tree, DEVICES, tiled=True)


def own_rows(array: jax.Array, rows: int) -> jax.Array:
    """Returns this device's `rows` rows of an array that has the rows of all devices, the inverse of `gathered`."""
    device = device_index()
    return array if device is None else jax.lax.dynamic_slice_in_dim(array, device * rows, rows)
