"""A parameter's path is its keys joined by `/`: `backbone/encoder/layer/0/attention/self/query/kernel`."""

from collections.abc import Callable, Mapping
from typing import Any

import jax

Tree = Any


def path_of(keys: tuple[Any, ...]) -> str:
    """The path of one leaf, from the key path that jax.tree_util gives."""
    return "/".join(str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))) for key in keys)


def flatten(tree: Tree) -> dict[str, Any]:
    """Leaves by path, in the tree's order. `None` is no leaf."""
    return {path_of(keys): leaf for keys, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def unflatten(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """The nested dict whose leaves have these paths; the inverse of `flatten` on nested dicts."""
    tree: dict[str, Any] = {}
    for path, leaf in leaves.items():
        *parents, last = path.split("/")
        node = tree
        for key in parents:
            node = node.setdefault(key, {})
        node[last] = leaf
    return tree


def map_with_path(function: Callable[..., Any], tree: Tree, *others: Tree) -> Tree:
    """`function(path, leaf)` at every leaf, in the same structure; with the leaves of `others` there, if given."""
    return jax.tree_util.tree_map_with_path(lambda keys, *leaves: function(path_of(keys), *leaves), tree, *others)
