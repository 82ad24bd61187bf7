"""Digests of arrays: what they are, in plain Python, on any devices; and that no bit can change unnoticed."""

from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from tlx.parallel.layout import make_layout
from tlx.training.digest import digests

RANDOM = np.random.default_rng(0)


def by_hand(array: np.ndarray) -> str:
    """The definition, one word after the other, with Python's unbounded integers."""
    size = array.dtype.itemsize
    words = np.frombuffer(array.tobytes(), {1: "<u1", 2: "<u2"}.get(size, "<u4")).tolist()
    first = second = 0
    for position, word in enumerate(words):
        mixed = (word + position * 0x9E3779B9) % 2**32
        mixed = ((mixed ^ (mixed >> 16)) * 0x7FEB352D) % 2**32
        mixed = ((mixed ^ (mixed >> 15)) * 0x846CA68B) % 2**32
        mixed ^= mixed >> 16
        first, second = first + mixed, second + mixed * (2 * position + 1)
    return f"{array.dtype} {array.shape} {first % 2**32:08x}{second % 2**32:08x}"


@pytest.mark.parametrize("dtype", ["float32", "int32", "uint32", "bfloat16", "float16", "int8", "uint8", "bool"])
@pytest.mark.parametrize("shape", [(), (1,), (7,), (8, 16), (3, 4, 5), (0,), (2, 0, 3)])
def test_the_definition(dtype: str, shape: tuple[int, ...]) -> None:
    array = (RANDOM.normal(size=shape) * 10).astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    array = np.asarray(array)
    assert digests({"a": jnp.asarray(array)}) == {"a": by_hand(array)}


def test_bits_that_compare_as_equal_or_as_unequal() -> None:
    """Zeros of both signs differ, and NaNs are numbers like others."""
    zeros = [digests(jnp.asarray(value, jnp.float32)) for value in (0.0, -0.0)]
    assert zeros[0] != zeros[1]
    nan = [np.asarray([bits], np.uint32).view(np.float32) for bits in (0x7FC00000, 0x7FC00001)]
    assert digests(jnp.asarray(nan[0])) == digests(jnp.asarray(nan[0])) != digests(jnp.asarray(nan[1]))


def test_keys_of_random_numbers() -> None:
    one, other = (digests({"key": jax.random.key(seed)})["key"] for seed in (1, 2))
    assert one.startswith("key<") and one != other


@pytest.mark.parametrize(("data", "fsdp"), [(8, 1), (1, 8), (2, 4)])
def test_on_any_devices(data: int, fsdp: int) -> None:
    """Replicated, and cut along each axis."""
    array = RANDOM.normal(size=(16, 24)).astype(np.float32)
    mesh = make_layout(data, fsdp).mesh
    for spec in ((), ("fsdp",), (None, "fsdp"), (("data", "fsdp"),)):
        sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*spec))
        assert digests({"a": jax.device_put(array, sharding)}) == {"a": by_hand(array)}


def changes(array: np.ndarray) -> Any:
    """Arrays of the same shape and dtype that differ."""
    bits = array.view(np.uint8).reshape(-1)
    for bit in RANDOM.choice(8 * bits.size, 300, replace=False):
        changed = bits.copy()
        changed[bit // 8] ^= 1 << (bit % 8)
        yield changed.view(array.dtype).reshape(array.shape)
    for start in range(0, array.size, 40):
        changed = array.copy().reshape(-1)
        changed[start : start + 40] = 0
        yield changed.reshape(array.shape)
    yield array[::-1]
    yield array[:, ::-1]
    yield np.roll(array, 1)
    yield np.ascontiguousarray(array.T).reshape(array.shape)
    changed = array.copy()
    changed[0, 0], changed[3, 4] = array[3, 4], array[0, 0]
    yield changed


def test_what_changes_is_noticed() -> None:
    array = RANDOM.normal(size=(20, 12)).astype(np.float32)
    expected, tried = digests(array), 0
    for changed in changes(array):
        tried += 1
        assert digests(changed) != expected
    assert tried == 311
