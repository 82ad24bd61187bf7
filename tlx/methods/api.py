"""The contract between a method and the loop.

A method names its streams, says which player owns which parameters, and lists the updates of a step. The loop
differentiates, clips, and hands each player's gradient to its optimizer; a method does none of that.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
from flax import struct

from tlx.models.forward import Context, ModelState
from tlx.params.rules import Rules

Batch = Mapping[str, Mapping[str, jax.Array]]  # {stream: {field: array}}
Losses = dict[str, tuple[jax.Array, jax.Array]]  # {name: (total, count)}
Gradients = dict[str, Any]  # {loss: gradient with respect to the trainable parameters}


@struct.dataclass
class Carried:
    """Arrays that go from one update to the next besides the parameters.

    Attributes:
      method: the method's own (`method_state`).
      model: the model's mutable collections, such as the running statistics of batch norm.
    """

    method: Any
    model: ModelState = struct.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Update:
    """One update of a step.

    Attributes:
      losses: `(params, batch, carried, context) -> ({name: (total, count)}, carried)`. What is minimized is
        the sum over losses of total / count, both summed over the micro-batches of a batch. Totals and counts are
        scalars; a count is a constant for differentiation, unless `differentiable_counts` names its loss. Under
        `jax.pmap` the batch holds one device's rows, so totals and counts are sums over rows.
      players: whose parameters it moves.
      name: of its metrics, `NAME/loss`; "" only where a method has one update.
      repeat: how many times it is taken in a step, on the same batch and with random numbers of its own each time.
      combine: `(gradients by loss, {name: total / count}, method_state) -> (gradient, method_state)`, in place of the
        sum of gradients; `method_state` is that of `Carried.method`. All of them come from one forward pass.
      needs: for a player, losses of which at least one must have a count above 0 in the batch; otherwise the player is
        left as it is: parameters, moments and step count. Players that are not named always move.
      differentiable_counts: losses whose count depends on the parameters and is differentiated too.
    """

    losses: Callable[[Any, Batch, Carried, Context], tuple[Losses, Carried]]
    players: tuple[str, ...]
    name: str = ""
    repeat: int = 1
    combine: Callable[[Gradients, dict[str, jax.Array], Any], tuple[Any, Any]] | None = None
    needs: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    differentiable_counts: tuple[str, ...] = ()


# (state of the method, parameters, epochs done, stream -> predictions (examples, outputs)) -> state of the method
BeforeEpoch = Callable[[Any, Any, int, Callable[[str], Any]], Any]


class Method(Protocol):
    """What a method provides.

    Attributes:
      streams: the keys of the batch.
      players: who owns which parameters, as rules `(selector, True)`, disjoint.
      updates: in order, every step.
      before_epoch: makes the method's state anew before each epoch (pseudo-labels, centroids); None: it stays.
    """

    streams: tuple[str, ...]
    players: Mapping[str, Rules]
    updates: tuple[Update, ...]
    before_epoch: BeforeEpoch | None

    def init(self, key: jax.Array, shapes: Any) -> tuple[Any, Any]:
        """Parameters that only training needs, and arrays that are carried from step to step.

        Args:
          key: of the run; it decides the initial values.
          shapes: the model's parameters as `jax.ShapeDtypeStruct`s.

        Returns:
          `(aux, method_state)`. `aux` is a tree of parameters, {} without any; they stand at `aux/…`, and rules,
          groups and players apply to them as to all others.
        """
