"""The contract between a method and the loop.

A method names its streams, says which player owns which parameters, and lists the updates of a step. The loop
differentiates, clips, and hands each player's gradient to its optimizer; a method does none of that.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax

from tlx.params.rules import Rules

Batch = Mapping[str, Mapping[str, jax.Array]]  # {stream: {field: array}}
Losses = dict[str, tuple[jax.Array, jax.Array]]  # {name: (total, count)}


@dataclasses.dataclass(frozen=True)
class Update:
    """One update of a step.

    losses: `(params, batch, method_state, key) -> ({name: (total, count)}, method_state)`; what is descended is the sum
      of total / count. players: whose parameters it moves.
    """

    losses: Callable[[Any, Batch, Any, jax.Array], tuple[Losses, Any]]
    players: tuple[str, ...]


class Method(Protocol):
    """streams: the batch's keys. players: who owns which parameters, as rules `(selector, True)`, disjoint.
    updates: in order, every step."""

    streams: tuple[str, ...]
    players: Mapping[str, Rules]
    updates: tuple[Update, ...]

    def init(self, key: jax.Array) -> tuple[Any, Any]:
        """`(aux, method_state)`: parameters that only training needs, and arrays carried from step to step."""
