"""The mapped axis of a step under `jax.pmap`, in which each device runs the step on its own rows of the batch.

Under `jax.jit`, and in evaluation, the axis is not bound; `summed` then returns its argument unchanged.
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
