"""The state of a run at a step, which a checkpoint holds."""

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
AUX = "aux"  # key of the parameters that only training needs
EVAL_PARAMS = "eval_params"  # key of the average that is evaluated, selected and exported instead of the parameters


@struct.dataclass
class State:
    """The state of a run.

    Attributes:
      step: int32 (), number of finished steps.
      params: all parameters.
      opt_state: the optimizer state of each player.
      method_state: arrays that the method keeps from step to step.
      averages: averages of the parameters by name, with None for frozen parameters; {} if there are none.
      model_state: the model's mutable collections by name, such as batch norm's statistics; {} for most models.
      averaged_model_state: the model state for the average `eval_params`, computed at the last evaluation; {} without
        an average or without a model state.
      skipped_in_a_row: int32 (), number of steps up to this one that were skipped, one after the other, because their
        loss or gradient was not finite.
    """

    step: jax.Array
    params: Tree
    opt_state: dict[str, Any]
    method_state: Any
    averages: dict[str, Tree] = struct.field(default_factory=dict)
    model_state: ModelState = struct.field(default_factory=dict)
    averaged_model_state: ModelState = struct.field(default_factory=dict)
    skipped_in_a_row: jax.Array = struct.field(default_factory=lambda: jnp.zeros((), jnp.int32))

    @property
    def variables(self) -> Variables:
        """The model's parameters, without `aux`, and its model state."""
        return Variables({name: part for name, part in self.params.items() if name != AUX}, self.model_state)

    def with_eval_params(self) -> "State":
        """Returns the state with the average `eval_params` and the parameters swapped, and so their model states.

        Without an average, the state is returned unchanged. Calling it twice gives the original state.
        """
        if EVAL_PARAMS not in self.averages:
            return self
        average = self.averages[EVAL_PARAMS]
        current = jax.tree.map(
            lambda mean, leaf: None if mean is None else leaf, average, self.params, is_leaf=lambda leaf: leaf is None
        )
        averages = {**self.averages, EVAL_PARAMS: current}
        return dataclasses.replace(
            self, params=merge(average, self.params), averages=averages,
            model_state=self.averaged_model_state, averaged_model_state=self.model_state,
        )  # fmt: skip


def assign_players(params: Tree, groups: Mapping[str, str], players: Mapping[str, Rules]) -> dict[str, str | None]:
    """Returns the player of each path; None for frozen paths.

    Args:
      params: the parameters, as arrays or as their shapes.
      groups: the group of each path.
      players: for each player, rules `(selector, True)`.

    Raises:
      TlxError: if a trainable path belongs to no player.
    """
    trainable = [path for path in flatten(params) if groups[path] != FROZEN]
    rules = [(selector, name) for name, selectors in players.items() for selector, selected in selectors if selected]
    owned = assign(trainable, (), shipped=rules, what="the method's players") if trainable else {}
    return {path: owned.get(path) for path in flatten(params)}


def leaves_of(params: Tree, player_of: PlayerOf, players: tuple[str, ...]) -> Tree:
    """Returns the tree with None for each leaf that does not belong to one of the players."""
    return map_with_path(lambda path, leaf: leaf if player_of[path] in players else None, params)


def init_state(
    params: Tree,
    player_of: PlayerOf,
    optimizers: Mapping[str, optax.GradientTransformation],
    method_state: Any,
    averaged: bool = False,
    model_state: ModelState | None = None,
) -> State:
    """Returns the state before the first step.

    Moments and averages exist only for parameters that belong to a player.

    Args:
      params: all parameters.
      player_of: the player of each path; None if it is frozen.
      optimizers: the optimizer of each player.
      method_state: the method's initial state.
      averaged: whether the run keeps an average of the parameters.
      model_state: the model's mutable collections; None if it has none.
    """
    opt_state = {name: tx.init(leaves_of(params, player_of, (name,))) for name, tx in optimizers.items()}
    owned = leaves_of(params, player_of, tuple(optimizers))
    state = dict(model_state or {})
    averages, averaged_state = (jax.tree.map(jnp.copy, ({EVAL_PARAMS: owned}, state))) if averaged else ({}, {})
    return State(jnp.zeros((), jnp.int32), params, opt_state, method_state, averages, state, averaged_state)
