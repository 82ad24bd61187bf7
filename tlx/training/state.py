"""What a run is at a step: everything that a checkpoint holds."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from tlx.params.partition import FROZEN, merge
from tlx.params.paths import Tree, flatten, map_with_path
from tlx.params.rules import Rules, assign

PlayerOf = Mapping[str, str | None]  # the player of each path; None: frozen
EVAL_PARAMS = "eval_params"  # the average that is evaluated, selected by and handed on in the parameters' place


@struct.dataclass
class State:
    """What a checkpoint holds.

    Attributes:
      step: int32 (), how many were taken.
      params: the whole tree.
      opt_state: by player.
      method_state: arrays that the method carries.
      averages: by name, None where a leaf is frozen.
      model_state: the model's mutable collections by name, such as batch norm's running statistics; {} of most models.
    """

    step: jax.Array
    params: Tree
    opt_state: dict[str, Any]
    method_state: Any
    averages: dict[str, Tree] = struct.field(default_factory=dict)
    model_state: Any = struct.field(default_factory=dict)

    def with_eval_params(self) -> "State":
        """The state with the average `eval_params` and the parameters exchanged, if there is one; its own inverse."""
        if EVAL_PARAMS not in self.averages:
            return self
        average = self.averages[EVAL_PARAMS]
        learning = jax.tree.map(
            lambda mean, leaf: None if mean is None else leaf, average, self.params, is_leaf=lambda leaf: leaf is None
        )
        averages = {**self.averages, EVAL_PARAMS: learning}
        return dataclasses.replace(self, params=merge(average, self.params), averages=averages)


def assign_players(params: Tree, groups: Mapping[str, str], players: Mapping[str, Rules]) -> dict[str, str | None]:
    """Which player moves each path. Frozen paths are nobody's."""
    trainable = [path for path in flatten(params) if groups[path] != FROZEN]
    rules = [(selector, name) for name, own in players.items() for selector, mine in own if mine]
    owned = assign(trainable, (), shipped=rules, what="the method's players") if trainable else {}
    return {path: owned.get(path) for path in flatten(params)}


def leaves_of(params: Tree, player_of: PlayerOf, players: tuple[str, ...]) -> Tree:
    """The tree with None wherever the leaf is not these players'."""
    return map_with_path(lambda path, leaf: leaf if player_of[path] in players else None, params)


def init_state(
    params: Tree,
    player_of: PlayerOf,
    optimizers: Mapping[str, optax.GradientTransformation],
    method_state: Any,
    averaged: bool = False,
    model_state: Any = None,
) -> State:
    """The state before the first step. Moments, and copies if an average is kept, exist for what a player owns and
    nothing else."""
    opt_state = {name: tx.init(leaves_of(params, player_of, (name,))) for name, tx in optimizers.items()}
    owned = leaves_of(params, player_of, tuple(optimizers))
    averages = {EVAL_PARAMS: jax.tree.map(jnp.copy, owned)} if averaged else {}
    return State(jnp.zeros((), jnp.int32), params, opt_state, method_state, averages, model_state or {})
