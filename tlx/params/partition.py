"""Splits a parameter tree before differentiation, so that frozen parameters have no gradient and no optimizer state."""

from collections.abc import Mapping
from typing import Any

import jax

from tlx.params.kinds import KindTable
from tlx.params.paths import Tree, flatten, map_with_path
from tlx.params.rules import Rules, assign

FROZEN = "frozen"


def split(params: Tree, groups: Mapping[str, str]) -> tuple[Tree, Tree]:
    """Splits a tree by the group of each path.

    Args:
      params: the whole tree.
      groups: the group of every path.

    Returns:
      `(trainable, frozen)`, both with the full structure; a leaf that belongs to the other tree is None.
    """
    trainable = map_with_path(lambda path, leaf: None if groups[path] == FROZEN else leaf, params)
    frozen = map_with_path(lambda path, leaf: leaf if groups[path] == FROZEN else None, params)
    return trainable, frozen


def partition(params: Tree, rules: Rules, kinds: KindTable | None = None) -> tuple[Tree, Tree]:
    """Splits a tree by rules `(selector, group)`, where the group `"frozen"` is reserved.

    Args:
      params: any tree of arrays.
      rules: ordered rules; the first whose selector matches a path decides. Every path must be matched.
      kinds: the table of kinds for selectors `kind:…`; None derives kinds from the names of parameters and modules.

    Returns:
      `(trainable, frozen)`, both with the full structure; a leaf that belongs to the other tree is None.

    Raises:
      TlxError: if a rule is invalid or applies to no path, or if no rule matches a path.

    >>> trainable, frozen = partition({"a": {"kernel": 1.0, "bias": 2.0}}, [("kind:bias", "b"), (".*", "frozen")])
    >>> trainable, frozen
    ({'a': {'bias': 2.0, 'kernel': None}}, {'a': {'bias': None, 'kernel': 1.0}})
    """
    return split(params, assign(flatten(params), rules, kinds=kinds))


def merge(trainable: Tree, frozen: Tree) -> Tree:
    """Returns the whole tree; the inverse of `partition`."""

    def either(a: Any, b: Any) -> Any:
        return b if a is None else a

    return jax.tree.map(either, trainable, frozen, is_leaf=lambda leaf: leaf is None)
