"""A tree split by rules and put together again."""

import doctest

import jax
import jax.numpy as jnp
import numpy as np

import tlx
from tlx.params import partition as module
from tlx.params.paths import flatten, unflatten

TREE = {"a": {"kernel": jnp.ones(3), "bias": jnp.zeros(2)}, "b": [jnp.ones(1), jnp.ones(4)]}


def test_merge_inverts_partition() -> None:
    trainable, frozen = tlx.partition(TREE, [("a/.*", "frozen"), (".*", "rest")])
    assert list(flatten(trainable)) == ["b/0", "b/1"] and list(flatten(frozen)) == ["a/bias", "a/kernel"]
    back = tlx.merge(trainable, frozen)
    assert jax.tree.structure(back) == jax.tree.structure(TREE)
    assert all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(back), jax.tree.leaves(TREE), strict=True))


def test_gradient_exists_for_the_trainable_part_alone() -> None:
    trainable, frozen = tlx.partition(TREE, [(".*kernel", "rest"), (".*", "frozen")])
    gradient = jax.grad(lambda t: sum(jnp.sum(x**2) for x in jax.tree.leaves(tlx.merge(t, frozen))))(trainable)
    assert list(flatten(gradient)) == ["a/kernel"]
    np.testing.assert_array_equal(gradient["a"]["kernel"], 2 * np.ones(3))


def test_paths_round_trip() -> None:
    tree = {"x": {"y": 1, "z": {"w": 2}}, "v": 3}
    assert unflatten(flatten(tree)) == tree


def test_docstring() -> None:
    assert doctest.testmod(module).failed == 0
