"""What a run is at a step: everything that a checkpoint holds."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from tlx.models.forward import ModelState, Variables
from tlx.params.partition import FROZEN, merge
from tlx.params.paths import Tree, flatten, map_with_path
from tlx.params.rules import Rules, assign

PlayerOf = Mapping[str, str | None]  # the player of each path; None: frozen
AUX = "aux"  # the root of the parameters that only training needs
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
      averaged_model_state: the same of the average `predictions`, as of the last evaluation; {} without both.
    """

    step: jax.Array
    params: Tree
    opt_state: dict[str, Any]
    method_state: Any
    averages: dict[str, Tree] = struct.field(default_factory=dict)
    model_state: ModelState = struct.field(default_factory=dict)
    averaged_model_state: ModelState = struct.field(default_factory=dict)

    @property
    def variables(self) -> Variables:
        """What the model is run with, without the parameters that only training needs (`aux`)."""
        return Variables({name: part for name, part in self.params.items() if name != AUX}, self.model_state)

    def with_eval_params(self) -> "State":
        """The state in which the average `eval_params` and the parameters have changed places, and their model states
        too, where there is an average; its own inverse."""
        if EVAL_PARAMS not in self.averages:
            return self
        average = self.averages[EVAL_PARAMS]
        learning = jax.tree.map(
            lambda mean, leaf: None if mean is None else leaf, average, self.params, is_leaf=lambda leaf: leaf is None
        )
        averages = {**self.averages, EVAL_PARAMS: learning}
        return dataclasses.replace(
            self, params=merge(average, self.params), averages=averages,
            model_state=self.averaged_model_state, averaged_model_state=self.model_state,
        )  # fmt: skip


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
    model_state: ModelState | None = None,
) -> State:
    """The state before the first step. Moments, and copies if an average is kept, exist for what a player owns and
    nothing else. model_state: of a model that has one."""
    opt_state = {name: tx.init(leaves_of(params, player_of, (name,))) for name, tx in optimizers.items()}
    owned = leaves_of(params, player_of, tuple(optimizers))
    state = dict(model_state or {})
    averages, also = (jax.tree.map(jnp.copy, ({EVAL_PARAMS: owned}, state))) if averaged else ({}, {})
    return State(jnp.zeros((), jnp.int32), params, opt_state, method_state, averages, state, also)
