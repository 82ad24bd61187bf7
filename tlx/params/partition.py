"""Splitting a parameter tree BEFORE differentiation, so that what is frozen has no gradient and no optimizer state."""

from collections.abc import Mapping
from typing import Any

import jax

from tlx.params.kinds import KindTable
from tlx.params.paths import Tree, flatten, map_with_path
from tlx.params.rules import Rules, assign

FROZEN = "frozen"


def split(params: Tree, groups: Mapping[str, str]) -> tuple[Tree, Tree]:
    """`(trainable, frozen)` by the group of each path; both keep the structure, None where the other has the leaf."""
    trainable = map_with_path(lambda path, leaf: None if groups[path] == FROZEN else leaf, params)
    frozen = map_with_path(lambda path, leaf: leaf if groups[path] == FROZEN else None, params)
    return trainable, frozen


def partition(params: Tree, rules: Rules, kinds: KindTable | None = None) -> tuple[Tree, Tree]:
    """Splits a tree by rules `(selector, group)`, where the group `"frozen"` is reserved.

    Args:
      params: any tree of arrays.
      rules: ordered; the first whose selector matches a path decides; every path must be matched.
      kinds: what the names mean, for selectors `kind:…`; by default they go by leaf and module name.

    Returns:
      `(trainable, frozen)`, both with the full structure and None where the other holds the leaf.

    >>> trainable, frozen = partition({"a": {"kernel": 1.0, "bias": 2.0}}, [("kind:bias", "b"), (".*", "frozen")])
    >>> trainable, frozen
    ({'a': {'bias': 2.0, 'kernel': None}}, {'a': {'bias': None, 'kernel': 1.0}})
    """
    return split(params, assign(flatten(params), rules, kinds=kinds))


def merge(trainable: Tree, frozen: Tree) -> Tree:
    """The whole tree again; the inverse of `partition`."""

    def either(a: Any, b: Any) -> Any:
        return b if a is None else a

    return jax.tree.map(either, trainable, frozen, is_leaf=lambda leaf: leaf is None)
