"""Adaptive batch normalization (AdaBN: Li et al. 2017): the target's statistics in place of the source's."""

import dataclasses
from typing import Any

import jax

from tlx.errors import TlxError
from tlx.methods.api import Batch, Carried, Context, Losses
from tlx.methods.finetune import LossSettings
from tlx.methods.two_domains import PREPARED_TARGET, SOURCE, TARGET, USUAL_LOSS, TwoDomains
from tlx.modalities.api import Prepare
from tlx.models.model import Model


class AdaBn(TwoDomains):
    """Training on the source with the batch statistics of the source; the running statistics are the target's.

    The paper computes the target's statistics once, after training; here they are the running ones of the target's
    batches, so that every evaluation is one of the adapted model. The source's validation is then measured with the
    target's statistics too. It needs batch normalization. It removes a shift of each channel's mean and variance, and
    assumes the same classes, equally frequent. It fails where they are not: frequencies shift statistics by themselves.

    Args:
      model, prepare, settings: as in `TwoDomains`.
    """

    needs_classes = False

    def __init__(self, model: Model, prepare: Prepare, settings: LossSettings = USUAL_LOSS):
        super().__init__(model, prepare, settings, passes="separate")

    def losses(self, params: Any, batch: Batch, carried: Carried, context: Context) -> tuple[Losses, Carried]:
        """The loss on the source's labels; the state of the model is that after the target's pass."""
        if not carried.model:
            raise TlxError("the method adabn replaces the statistics of batch normalization, which this model has not.")
        source, _ = self.run(params, *self.inputs_of(batch, SOURCE, context), carried.model, context)
        key = jax.random.fold_in(context.key, PREPARED_TARGET)
        inputs = self.inputs_of(batch, TARGET, context)
        _, state = self.run(params, *inputs, carried.model, dataclasses.replace(context, key=key))
        return {"task": self.task_loss(source)}, dataclasses.replace(carried, model=state)
