"""Fine-tuning: one stream, one player, one update; every head against its own labels."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from tlx.losses.by_name import LOSSES, loss_name
from tlx.methods.api import Batch, BeforeEpoch, Carried, Context, Losses, Update
from tlx.modalities.api import Prepare
from tlx.models.forward import forward
from tlx.models.heads import PER_TOKEN, Head
from tlx.models.model import Model

PREPARED = 1  # dropout has the key itself
Loss = Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


@dataclasses.dataclass(frozen=True)
class LossSettings:
    """Which loss trains a head, and how.

    Attributes:
      label_smoothing: of classes and tags; 0: none.
      class_weights: by class; of a multilabel head, the weight of a yes. (): none.
      name: of the loss, a key of `tlx.losses.by_name.LOSSES`; None: the usual loss of the head's kind.
      own: the name and the value of each further setting of that loss.
    """

    label_smoothing: float = 0.0
    class_weights: tuple[float, ...] = ()
    name: str | None = None
    own: tuple[tuple[str, Any], ...] = ()

    @property
    def arguments(self) -> dict[str, Any]:
        """The settings that are given, as arguments of the loss."""
        shared = {"label_smoothing": self.label_smoothing, "class_weights": self.class_weights}
        return {**dict(self.own), **{name: value for name, value in shared.items() if value}}


def head_loss(head: Head, settings: LossSettings = LossSettings()) -> Loss:
    """The loss of a head, `(predictions, labels, weight) -> (total, count)`; of a regression in units of the targets'
    spread."""
    function = LOSSES[loss_name(head.kind, settings.name)].function
    loss = functools.partial(function, **settings.arguments) if settings.arguments else function
    if head.kind != "regression":
        return loss
    scale = jnp.asarray(head.scale or (1.0,) * head.outputs)
    return lambda predictions, targets, weight: loss(predictions / scale, targets / scale, weight)


class FineTune:
    """The method that `experiments/finetune.py` runs.

    Args:
      model: a backbone with heads.
      labels: the field of the batch that each head answers.
      settings: of the losses.
      prepare: `(rows, key) -> (what the model takes, rows)`, from the batch's rows to the model's inputs; what it draws
        is decided by the key, and the labels it gives back are those learnt.
    """

    streams: tuple[str, ...] = ("train",)
    players: Mapping[str, Any] = {"model": ((".*", True),)}
    before_epoch: BeforeEpoch | None = None
    packs = True

    def __init__(
        self,
        model: Model,
        labels: Mapping[str, str],
        prepare: Prepare,
        settings: LossSettings = LossSettings(),
    ):
        self.prepare = prepare
        self.model, self.labels = model, dict(labels)
        self.reads_valid: bool = getattr(model.backbone, "reads_valid", False)
        self.heads = dict(model.heads_by_name)
        self.loss_of = {name: head_loss(head, settings) for name, head in self.heads.items()}
        self.updates: tuple[Update, ...] = (Update(self.losses, ("model",)),)

    def init(self, key: jax.Array, shapes: Any) -> tuple[Any, Any]:
        """Nothing to train besides the model, nothing to carry."""
        del key, shapes
        return {}, {}

    def losses(self, params: Any, batch: Batch, carried: Carried, context: Context) -> tuple[Losses, Carried]:
        """The mean loss of every head over the examples that are `valid`, or over their tokens that have a label."""
        inputs, rows = self.prepare(batch["train"], jax.random.fold_in(context.key, PREPARED))
        if self.reads_valid:
            inputs = {**inputs, "valid": rows["valid"]}
        output, model_state = forward(self.model, params, carried.model, inputs, context)
        losses = {}
        for name, field in self.labels.items():
            per_token = self.heads[name].kind in PER_TOKEN  # no token of padding has a label
            weight = rows[f"{field}_mask" if per_token else "valid"].astype(jnp.float32)
            losses[name] = self.loss_of[name](output.logits[name], rows[field], weight)
        return losses, dataclasses.replace(carried, model=model_state)
