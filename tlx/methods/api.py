"""The interface between a method and the training loop.

A method names its streams, assigns parameters to players, and lists the updates of a training step. A player is a set
of parameters with its own optimizer; fine-tuning has one player, adversarial training has several. The training step
differentiates the losses, clips the gradients and applies each player's optimizer. A method does none of this.
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
Means = dict[str, jax.Array]  # {name: total / count}
Counts = dict[str, jax.Array]  # {name: count}
Inner = dict[str, dict[str, jax.Array]]  # inner products of the gradients of two losses, by their names
Gradients = dict[str, Any]  # {name of a loss: its gradient with respect to the trainable parameters}


@struct.dataclass
class Carried:
    """Arrays other than parameters that pass from one update to the next.

    Attributes:
      method: the method's own state (`State.method_state`).
      model: the model's mutable collections, such as the running statistics of batch norm.
    """

    method: Any
    model: ModelState = struct.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Update:
    """One update of a training step.

    Attributes:
      losses: a function `(params, batch, carried, context) -> ({name: (total, count)}, carried)`. The update minimizes
        the sum over losses of total / count, where totals and counts are summed over the micro-batches of a batch.
        Totals and counts are scalars. A count is treated as a constant in differentiation unless
        `differentiable_counts` names its loss. With `parallel.mode=pmap` the batch holds the rows of one device. Totals
        and counts must then be sums over rows, and the method's state must be unchanged (`combine` and `weigh` may
        change it).
      players: names of the players whose parameters are updated.
      name: prefix of the update's metrics, `NAME/loss`. It may be "" only if the method has a single update.
      repeat: how often the update is applied in a step. Each time it uses the same batch and new random numbers.
      combine: a function `(gradients, {name: total / count}, {name: count}, method_state) -> (gradient, method_state)`
        that replaces the sum of the losses' gradients. `method_state` is `Carried.method`. All gradients come from one
        forward pass.
      measure: a function `(gradients, {name: count}) -> {name: scalar}` of what `combine` is given. The values are
        logged as metrics; a NaN is left out of the logged mean.
      weigh: a function `({name: total / count}, {name: count}, method_state) -> ({name: weight}, method_state)`. The
        update then minimizes the sum of weight · total / count, the weights being constants, with one backward pass;
        the losses are logged without weights. Not together with `combine` or `differentiable_counts`.
      weigh_features: a function `(inner, {name: total / count}, {name: count}, method_state) -> ({name: weight},
        method_state)`, where `inner[one][other]` is the inner product of two losses' gradients with respect to what the
        heads read. The update then takes, with one backward pass through the backbone, the gradient of the sum of
        weight · total / count, and that of the sum without weights for parameters below `own`. Not together with
        `combine`, `weigh` or `differentiable_counts`, and of a batch that is not accumulated.
      own: path prefixes of parameters to which `weigh_features` does not apply.
      needs: for each player, the losses of which at least one must have a count above 0 in the batch. If none has, the
        player's parameters, moments and step count stay as they are. A player that is not a key is always updated.
      differentiable_counts: names of losses whose count depends on the parameters and is differentiated too.
      only_logged: names in what `losses` returns that are no losses: their total / count, such as an accuracy, is
        logged and not minimized. Not together with `combine`, `weigh` or `differentiable_counts`.
    """

    losses: Callable[[Any, Batch, Carried, Context], tuple[Losses, Carried]]
    players: tuple[str, ...]
    name: str = ""
    repeat: int = 1
    combine: Callable[[Gradients, Means, Counts, Any], tuple[Any, Any]] | None = None
    measure: Callable[[Gradients, Counts], dict[str, jax.Array]] | None = None
    weigh: Callable[[Means, Counts, Any], tuple[dict[str, jax.Array], Any]] | None = None
    weigh_features: Callable[[Inner, Means, Counts, Any], tuple[dict[str, jax.Array], Any]] | None = None
    own: tuple[str, ...] = ()
    needs: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    differentiable_counts: tuple[str, ...] = ()
    only_logged: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        ways = [self.combine, self.weigh, self.weigh_features, self.differentiable_counts]
        if self.only_logged and any(ways):
            raise ValueError(
                "an update with only_logged has no combine, weigh, weigh_features or differentiable_counts."
            )
        if self.weigh_features and sum(map(bool, ways)) > 1:
            raise ValueError("an update with weigh_features has no combine, weigh or differentiable_counts.")


class StreamOutputs(Protocol):
    """What the model of the moment makes of the streams, without dropout or augmentation.

    Attributes:
      model_state: the model's mutable collections.
    """

    @property
    def model_state(self) -> ModelState: ...

    def __call__(self, stream: str) -> Any:
        """Returns the predictions for all examples of a stream, NumPy (examples, outputs)."""

    def features(self, stream: str) -> Any:
        """Returns what the head reads of all examples of a stream, NumPy (examples, hidden)."""


# (method state, parameters, number of finished epochs of the phase, outputs of the streams) -> new method state
BeforeEpoch = Callable[[Any, Any, int, StreamOutputs], Any]


class Method(Protocol):
    """What a method provides.

    Attributes:
      streams: names of the streams that a batch holds.
      players: rules `(selector, True)` for each player's parameters. No parameter may belong to two players.
      updates: the updates of each training step, in order.
      before_epoch: recomputes the method's state before each epoch, for example pseudo-labels or centroids. None: the
        state is not recomputed.

    A method whose losses read the examples' fields from the rows that `prepare` returns may also have `packs = True`:
    texts are then packed (docs/packing.md), and the fields of `batch` itself begin with (rows, texts).
    """

    streams: tuple[str, ...]
    players: Mapping[str, Rules]
    updates: tuple[Update, ...]
    before_epoch: BeforeEpoch | None

    def init(self, key: jax.Array, shapes: Any) -> tuple[Any, Any]:
        """Initializes the parameters that only training needs, and the method's state.

        Args:
          key: random key of the run.
          shapes: the model's parameters as `jax.ShapeDtypeStruct`s.

        Returns:
          `(aux, method_state)`. `aux` is a tree of parameters, {} if there are none. They are stored at `aux/…`, and
          rules, groups and players apply to them as to all other parameters.
        """
