"""Says what a training step needs of memory, before its first call and when memory runs out."""

import dataclasses
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from tlx.errors import LESS_MEMORY, TlxError, no_memory
from tlx.files.memory import available, capacity, format_bytes


@dataclasses.dataclass(frozen=True)
class Need:
    """The bytes that a compiled step needs on each device, by XLA's analysis of the program.

    Attributes:
      kept: those of its arguments: the state, the batch and constants. They exist before the step is called.
      new: those of temporary arrays, and of outputs that do not take an argument's place.
      temporary: those of temporary arrays.
    """

    kept: int
    new: int
    temporary: int

    def __str__(self) -> str:
        return (
            f"{format_bytes(self.kept + self.new)} ({format_bytes(self.kept)} for state and batch, "
            f"{format_bytes(self.temporary)} temporary)"
        )


def explained(step: Any, constants: tuple[Any, ...]) -> Callable[[Any, Any], Any]:
    """Returns the function `(state, batch) -> step(state, batch, *constants)`, which explains a lack of memory.

    Before the first step with batches of a shape, what it needs is compared with the memory that there is.

    Args:
      step: a jitted training step.
      constants: its constants.
    """
    checked = set()

    def stepped(state: Any, batch: Any) -> Any:
        arguments = (state, batch, *constants)
        shapes = tuple(map(jnp.shape, jax.tree.leaves(batch)))
        try:
            if shapes in checked:
                return step(*arguments)
            check(need_of(step, arguments))
            checked.add(shapes)
            return jax.block_until_ready(step(*arguments))  # memory runs out in the background
        except Exception as error:
            if (reason := no_memory(error)) is None:
                raise
            need = needed(step, arguments)
            raise TlxError(
                f"the training step does not fit into memory: it needs {need or 'an unknown amount'}, and "
                f"{_left()} is available ({reason}); {LESS_MEMORY}."
            ) from error

    return stepped


def need_of(step: Any, arguments: tuple[Any, ...]) -> Need:
    """Compiles a step and returns what it needs. The call of the step that follows uses the compiled program."""
    memory = step.lower(*arguments).compile().memory_analysis()
    new = memory.temp_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    return Need(memory.argument_size_in_bytes, new, memory.temp_size_in_bytes)


def check(need: Need) -> None:
    """Compares what a step needs with the memory of the device, or of the host if the devices are its own.

    Warns:
      UserWarning: if it needs more than is available now, because that may change.

    Raises:
      TlxError: if it needs more than there is.
    """
    most, left, devices = _device_limit(), None, 1
    if most is None:
        most, left, devices = capacity(), available(), len(jax.local_devices())
    if most is not None and devices * (need.kept + need.new) > most:
        each = f" on each of {devices} devices" if devices > 1 else ""
        raise TlxError(
            f"the training step does not fit into memory: it needs {need}{each}, and there is {format_bytes(most)} in "
            f"all; {LESS_MEMORY}."
        )
    if left is not None and devices * need.new > left:
        warnings.warn(
            f"the training step needs {format_bytes(devices * need.new)} beside state and batch, and "
            f"{format_bytes(left)} is available now, so that memory may run out; {LESS_MEMORY}.",
            UserWarning,
            stacklevel=3,
        )


def needed(step: Any, arguments: tuple[Any, ...]) -> Need | None:
    """Returns what a step needs, also if its arguments were donated; None if it cannot be compiled."""
    try:
        shapes = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), arguments
        )
        return need_of(step, shapes)
    except Exception:
        return None


def _left() -> str:
    """What the first device of this process has left, or the host if the device does not tell."""
    if (limit := _device_limit()) is not None:
        return f"{format_bytes(limit)} on the device"
    left = available()
    return "an unknown amount" if left is None else f"{format_bytes(left)} more on the host"


def _device_limit() -> int | None:
    """The memory of the first device of this process, in bytes; None if it does not tell, as on a CPU."""
    statistics = jax.local_devices()[0].memory_stats()
    return (statistics or {}).get("bytes_limit")
