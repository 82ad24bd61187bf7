"""The table of losses: from `config.loss.name` to a function and the kinds of heads that it can train."""

import dataclasses
import inspect
from collections.abc import Callable

import jax

from tlx.errors import TlxError, listed
from tlx.losses.supervised import binary_cross_entropy, cross_entropy, span_cross_entropy, squared_error


@dataclasses.dataclass(frozen=True)
class Loss:
    """A loss and the heads that it can train.

    Attributes:
      function: `(predictions, labels, weight, **settings) -> (total, count)`, as in `tlx.losses.supervised`; every
        setting has a default.
      kinds: the kinds of heads that it can train (`tlx.models.heads.KINDS`).
    """

    function: Callable[..., tuple[jax.Array, jax.Array]]
    kinds: tuple[str, ...]

    @property
    def settings(self) -> tuple[str, ...]:
        """The names of the loss's settings: the function's arguments after the first three."""
        return tuple(inspect.signature(self.function).parameters)[3:]


ONE_OF_SEVERAL = ("classification", "tagging", "masked_lm", "multiple_choice")
LOSSES: dict[str, Loss] = {  # the first one that can train a kind is its usual loss
    "cross_entropy": Loss(cross_entropy, ONE_OF_SEVERAL),
    "binary_cross_entropy": Loss(binary_cross_entropy, ("multilabel",)),
    "squared_error": Loss(squared_error, ("regression",)),
    "span_cross_entropy": Loss(span_cross_entropy, ("question_answering",)),
}


def loss_name(kind: str, name: str | None = None) -> str:
    """Returns the key in `LOSSES` of the loss that trains a head.

    Args:
      kind: the kind of the head.
      name: the name of the loss; None: the usual loss of the kind.

    Raises:
      TlxError: no loss of this name can train a head of this kind.
    """
    known = [key for key, loss in LOSSES.items() if kind in loss.kinds]
    if name is None:
        return known[0]
    if name not in known:
        raise TlxError(f"config.loss.name is {name!r}; a {kind} head is trained by one of {listed(known)}.")
    return name
