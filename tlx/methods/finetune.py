"""Fine-tuning: one stream, one player, one update. The loss is the sum of the losses of all heads."""

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
HeadLoss = Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


@dataclasses.dataclass(frozen=True)
class LossSettings:
    """The loss of a head and its settings.

    Attributes:
      label_smoothing: label smoothing of classification and tagging; 0: none.
      class_weights: a weight for each class; for multilabel, the weights of the positive labels. (): none.
      name: the name of the loss, a key of `tlx.losses.by_name.LOSSES`; None: the usual loss of the head's kind.
      extra: the names and values of further settings of the loss.
    """

    label_smoothing: float = 0.0
    class_weights: tuple[float, ...] = ()
    name: str | None = None
    extra: tuple[tuple[str, Any], ...] = ()

    @property
    def arguments(self) -> dict[str, Any]:
        """The settings that are used, as keyword arguments of the loss."""
        shared = {"label_smoothing": self.label_smoothing, "class_weights": self.class_weights}
        return {**dict(self.extra), **{name: value for name, value in shared.items() if value}}


def head_loss(head: Head, settings: LossSettings = LossSettings()) -> HeadLoss:
    """Returns the loss of a head, a function `(predictions, labels, weight) -> (total, count)`.

    Predictions and targets of a regression are first divided by `head.scale`.
    """
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
      labels: for each head, the field of the batch that has its labels.
      prepare: a function `(rows, key) -> (inputs, rows)` from the rows of the batch to the model's inputs and the rows
        with the labels to train on (mixup changes them). The key is for augmentation.
      settings: the settings of the losses.
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
        """Returns no additional parameters and no state."""
        del key, shapes
        return {}, {}

    def losses(self, params: Any, batch: Batch, carried: Carried, context: Context) -> tuple[Losses, Carried]:
        """Returns the loss of each head over the valid examples, or over their tokens that have a label."""
        inputs, rows = self.prepare(batch["train"], jax.random.fold_in(context.key, PREPARED))
        if self.reads_valid:
            inputs = {**inputs, "valid": rows["valid"]}
        output, model_state = forward(self.model, params, carried.model, inputs, context)
        losses = {}
        for name, field in self.labels.items():
            per_token = self.heads[name].kind in PER_TOKEN  # no token of padding has a label
            weight = rows[f"{field}_mask" if per_token else "valid"].astype(jnp.float32)
            if self.heads[name].kind == "question_answering" and "segment_ids" in rows:
                weight = weight * rows["segment_ids"]  # the windows that share a row
            losses[name] = self.loss_of[name](output.logits[name], rows[field], weight)
        return losses, dataclasses.replace(carried, model=model_state)
