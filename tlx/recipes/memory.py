"""Says what a training step needs when memory runs out: one sentence with the need, what is available, and advice."""

from collections.abc import Callable
from typing import Any

import jax

from tlx.errors import LESS_MEMORY, TlxError, no_memory
from tlx.files.memory import available, format_bytes


def explained(step: Any, constants: tuple[Any, ...]) -> Callable[[Any, Any], Any]:
    """Returns the function `(state, batch) -> step(state, batch, *constants)`, which explains a lack of memory.

    Args:
      step: a jitted training step.
      constants: its constants.
    """

    def stepped(state: Any, batch: Any) -> Any:
        try:
            return step(state, batch, *constants)
        except Exception as error:
            if (reason := no_memory(error)) is None:
                raise
            need = needed(step, (state, batch, *constants))
            raise TlxError(
                f"the training step does not fit into memory: it needs {need or 'an unknown amount'}, and "
                f"{_left()} is available ({reason}); {LESS_MEMORY}."
            ) from error

    return stepped


def needed(step: Any, arguments: tuple[Any, ...]) -> str | None:
    """Returns the bytes that a compiled step needs on each device, as text; None if it cannot be compiled."""
    try:
        shapes = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), arguments
        )
        memory = step.lower(*shapes).compile().memory_analysis()
    except Exception:
        return None
    kept, temporary = memory.argument_size_in_bytes, memory.temp_size_in_bytes
    new = memory.output_size_in_bytes - memory.alias_size_in_bytes
    return (
        f"{format_bytes(kept + temporary + new)} ({format_bytes(kept)} for state and batch, "
        f"{format_bytes(temporary)} temporary)"
    )


def _left() -> str:
    """What the first device of this process has left, or the host if the device does not tell."""
    statistics = jax.local_devices()[0].memory_stats()
    if statistics and "bytes_limit" in statistics:
        return f"{format_bytes(statistics['bytes_limit'])} on the device"
    left = available()
    return "an unknown amount" if left is None else f"{format_bytes(left)} more on the host"
