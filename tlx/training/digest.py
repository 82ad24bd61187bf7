"""Digests of arrays: 64 bits that change if any bit of an array changes, computed where the array lies.

A digest is a function of the logical array alone (dtype, shape, bits in C order). It does not depend on the file
format, the devices or the sharding: each device sums over its shard, and the sums are added on the host. No array is
gathered, and every process gets the same result. It protects against accidents, not against an attacker.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tlx.parallel.processes import is_main, sum_over_processes
from tlx.params.paths import Tree, flatten

WORD = jnp.uint32
GOLDEN = 0x9E3779B9  # odd, so that the offsets of different positions differ
FACTORS = (0x7FEB352D, 0x846CA68B)  # of the finalizer "lowbias32" (Wellons 2018), a bijection of 32 bits


def digests(tree: Tree) -> dict[str, str]:
    """Returns a line for every array of a tree, by path: dtype, shape and 16 hexadecimal digits.

    Args:
      tree: a tree of arrays, possibly sharded over the devices of several processes, which must all call this.

    Returns:
      For example `{"heads/default/kernel": "float32 (32, 2) 0123456789abcdef"}`.
    """
    leaves = {path: leaf if isinstance(leaf, jax.Array) else jnp.asarray(leaf) for path, leaf in flatten(tree).items()}
    parts = jax.device_get([_parts(leaf) for leaf in leaves.values()])
    sums = np.array([np.sum(part, axis=0, dtype=np.uint64) for part in parts], np.uint64).reshape(-1, 2)
    return {
        path: f"{described(leaf)} {int(first):08x}{int(second):08x}"
        for (path, leaf), (first, second) in zip(leaves.items(), sum_over_processes(sums) % 2**32, strict=True)
    }


def described(leaf: Any) -> str:
    """Returns dtype and shape as a digest's line begins with them; `leaf` may also be a `jax.ShapeDtypeStruct`."""
    return f"{leaf.dtype} {tuple(leaf.shape)}"


def _parts(leaf: jax.Array) -> list[jax.Array]:
    """The sums of the parts of an array that this process counts: one copy of each shard.

    Each device computes alone. A sum over devices within a program would be a collective operation for each array.
    """
    if leaf.is_fully_addressable and not is_main():
        return [jnp.zeros(2, WORD)]  # an array of one process; the main process counts its own
    shards = [shard for shard in leaf.addressable_shards if shard.replica_id == 0]
    starts = [np.array([part.start or 0 for part in shard.index], np.uint32) for shard in shards]
    sums = [_sums(shard.data, start, leaf.shape) for shard, start in zip(shards, starts, strict=True)]
    return sums or [jnp.zeros(2, WORD)]


@functools.partial(jax.jit, static_argnums=2)
def _sums(shard: jax.Array, start: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Two sums over the words of a shard, uint32 (2,), modulo 2^32.

    Word w at position i of the array contributes h(w + i · GOLDEN) to the first sum and (2i + 1) times as much to the
    second. h is a bijection, so the sums change with certainty if one word changes. If several change, or change
    places, both sums stay the same with probability 2^-64. Without the index, equal words could be exchanged between
    positions.

    Args:
      shard: a part of the array.
      start: uint32 (dimensions,), the index of the shard's first element in the array.
      shape: the shape of the array.
    """
    words = _words(shard)
    shape = (*shape, *words.shape[len(shape) :])  # an element may be several words
    position, stride = jnp.zeros(words.shape, WORD), 1
    for axis in reversed(range(words.ndim)):
        first = start[axis] if axis < len(start) else WORD(0)
        position += (lax.broadcasted_iota(WORD, words.shape, axis) + first) * WORD(stride % 2**32)
        stride *= shape[axis]
    mixed = words + position * WORD(GOLDEN)
    for shift, factor in zip((16, 15), FACTORS, strict=True):
        mixed = (mixed ^ (mixed >> shift)) * WORD(factor)
    mixed ^= mixed >> 16
    terms = (mixed, mixed * (position * WORD(2) + WORD(1)))
    # One reduction of both is one pass over the array; two would read it twice.
    return jnp.stack(lax.reduce(terms, (WORD(0), WORD(0)), _add, tuple(range(words.ndim))))


def _add(one: tuple[jax.Array, ...], other: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
    return tuple(a + b for a, b in zip(one, other, strict=True))


def _words(leaf: jax.Array) -> jax.Array:
    """The bits of an array as uint32. An element of 8 or 16 bits is one word; one of 64 bits two, the lower first."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    leaf = jnp.asarray(leaf)
    if leaf.dtype == np.bool_:
        return leaf.astype(WORD)
    if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
        leaf = jnp.stack([leaf.real, leaf.imag], axis=-1)
    bits = jnp.finfo(leaf.dtype).bits if jnp.issubdtype(leaf.dtype, jnp.floating) else jnp.iinfo(leaf.dtype).bits
    if bits < 8:  # int4 and its like, which a byte holds
        return leaf.astype(jnp.int8).astype(jnp.uint8).astype(WORD)
    same_width = {8: jnp.uint8, 16: jnp.uint16}.get(int(bits), jnp.uint32)
    return lax.bitcast_convert_type(leaf, same_width).astype(WORD)
