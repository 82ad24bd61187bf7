"""What a run is at a step: everything that a checkpoint holds."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from tlx.params.partition import FROZEN
from tlx.params.paths import Tree, flatten, map_with_path
from tlx.params.rules import Rules, assign

Owners = Mapping[str, str | None]  # the player of each path; None: frozen


@struct.dataclass
class State:
    """step: int32, how many were taken. params: the whole tree. opt_state: by player.
    method_state: arrays that the method carries."""

    step: jax.Array
    params: Tree
    opt_state: dict[str, Any]
    method_state: Any


def owners(params: Tree, groups: Mapping[str, str], players: Mapping[str, Rules]) -> dict[str, str | None]:
    """Which player moves each path. Frozen paths are nobody's."""
    trainable = [path for path in flatten(params) if groups[path] != FROZEN]
    rules = [(selector, name) for name, own in players.items() for selector, mine in own if mine]
    owned = assign(trainable, (), shipped=rules, what="the method's players") if trainable else {}
    return {path: owned.get(path) for path in flatten(params)}


def owned_by(params: Tree, owner: Owners, players: tuple[str, ...]) -> Tree:
    """The tree with None wherever the leaf is not these players'."""
    return map_with_path(lambda path, leaf: leaf if owner[path] in players else None, params)


def init_state(
    params: Tree, owner: Owners, optimizers: Mapping[str, optax.GradientTransformation], method_state: Any
) -> State:
    """The state before the first step. Moments exist for what a player owns and nothing else."""
    opt_state = {name: tx.init(owned_by(params, owner, (name,))) for name, tx in optimizers.items()}
    return State(jnp.zeros((), jnp.int32), params, opt_state, method_state)
