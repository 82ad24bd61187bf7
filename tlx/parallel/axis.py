"""The axis over which a step under `jax.pmap` is mapped: each device runs the step on its own rows of the batch.

Elsewhere (under `jax.jit`, in evaluation) the axis is not bound, and the functions here change nothing.
"""

from typing import Any

import jax

DEVICES = "devices"


def device_index() -> jax.Array | None:
    """Which of the devices this one is, int32 (); None where the axis is not bound."""
    try:
        return jax.lax.axis_index(DEVICES)
    except NameError:
        return None


def summed(tree: Any) -> Any:
    """The sum over the devices of each leaf; the leaves themselves where the axis is not bound."""
    return tree if device_index() is None else jax.lax.psum(tree, DEVICES)
