"""Paths of parameters: the keys joined by `/`, such as `backbone/encoder/layer/0/attention/self/query/kernel`."""

from collections.abc import Callable, Mapping
from typing import Any

import jax

Tree = Any


def path_of(keys: tuple[Any, ...]) -> str:
    """Returns the path of a leaf from its key path in jax.tree_util."""
    return "/".join(str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))) for key in keys)


def flatten(tree: Tree) -> dict[str, Any]:
    """Returns the leaves by path, in the order of the tree. None is not a leaf."""
    return {path_of(keys): leaf for keys, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def unflatten(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the nested dict whose leaves have these paths; the inverse of `flatten` for nested dicts."""
    tree: dict[str, Any] = {}
    for path, leaf in leaves.items():
        *parents, last = path.split("/")
        node = tree
        for key in parents:
            node = node.setdefault(key, {})
        node[last] = leaf
    return tree


def map_with_path(function: Callable[..., Any], tree: Tree, *others: Tree) -> Tree:
    """Applies `function(path, leaf, *other_leaves)` to every leaf and returns a tree of the same structure."""
    return jax.tree_util.tree_map_with_path(lambda keys, *leaves: function(path_of(keys), *leaves), tree, *others)
