"""Blocks that compute the same are traced once: a compiled program's trace takes nearly the same time at any depth.

The block's function is under `jax.jit`, with the block's own variables and the hash of its path as arguments. JAX then
traces, differentiates and lowers it once for all blocks, and XLA inlines the calls, so that the compiled program is the
same as without. A scan over stacked parameters would compile faster, but takes more temporary memory.
"""

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen.module import _global_interceptor_stack

from tlx.models.layers import PATH, hash_above


@runtime_checkable
class BlockInterceptor(Protocol):
    """An interceptor whose effect on a block depends on arguments only; under others each block is traced by itself."""

    def of_block(self, path: str) -> tuple[Any, Any]:
        """Returns what the interceptor reads in the block at a path: something hashable, and a pytree of arrays."""

    def within(self, settings: Any, arrays: Any) -> contextlib.AbstractContextManager[None]:
        """Lets the interceptor read these while a block is traced; paths are then relative to the block."""


class TracedOnce:
    """Runs blocks within one `apply`, and traces those once that compute the same.

    It keeps nothing beyond the `apply` whose modules hold it, so that code that is replaced later is seen.
    """

    def __init__(self) -> None:
        self._run = jax.jit(_block_function(), static_argnums=0)

    def __call__(self, block: nn.Module, x: jax.Array, mask: jax.Array | None, deterministic: bool) -> Any:
        """Runs a bound block, and returns what `block(x, mask, deterministic)` returns, equal to the bit."""
        interceptors = tuple(_global_interceptor_stack)
        if not _shareable(block, interceptors):
            return block(x, mask, deterministic)
        scope: Any = block.scope
        path = "/".join(block.path)
        given = [interceptor.of_block(path) for interceptor in interceptors]
        variables, rngs = block.variables, {}
        if not deterministic and "dropout" in scope.rngs:
            variables, rngs = {**variables, PATH: hash_above(path)}, {"dropout": scope.rngs["dropout"].rng}
        kind = _Kind(block.clone(parent=None, name=None), deterministic, tuple(settings for settings, _ in given))
        return self._run(kind, variables, x, mask, rngs, tuple(arrays for _, arrays in given))


@dataclasses.dataclass(frozen=True)
class _Kind:
    """What has to be equal for two blocks to share a trace, besides the shapes of their arguments."""

    block: nn.Module
    deterministic: bool
    settings: tuple[Any, ...]


def _block_function() -> Callable[..., Any]:
    """A new function that runs a block: JAX's cache of traces goes by the function."""

    def block(kind: _Kind, variables: Any, x: jax.Array, mask: jax.Array | None, rngs: Any, arrays: Any) -> Any:
        with contextlib.ExitStack() as stack:
            for interceptor, *own in zip(_global_interceptor_stack, kind.settings, arrays, strict=True):
                stack.enter_context(interceptor.within(*own))
            return kind.block.apply(variables, x, mask, kind.deterministic, rngs=rngs)

    return block


def _shareable(block: nn.Module, interceptors: tuple[Any, ...]) -> bool:
    """Whether the block's function may be traced apart from the rest: no module in it writes, or is intercepted.

    Operations that run at once (outside of `jax.jit`) are left alone, because JAX would compile the function for them.
    """
    scope: Any = block.scope
    return (
        isinstance(jax.lax.iota(jnp.uint32, 1), jax.core.Tracer)
        and not scope.mutable
        and scope.rngs.keys() <= {"dropout"}
        and all(isinstance(interceptor, BlockInterceptor) for interceptor in interceptors)
    )
