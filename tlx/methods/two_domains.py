"""What the methods of domain adaptation share: the two domains of a batch, and a base class.

The stream `train` is the labelled source, the stream `target` holds examples of the target without labels; no method
reads a label of the target, so that the stream need not have any.

Passes. With `joint` the rows of both domains go through the model together, so that batch norm, where the model has
one, sees the mixture in training as its running statistics do in evaluation; the authors of DAN, JAN, DANN, CDAN and
MCC do so. With `separate` the source goes first and then the target, each with its own batch statistics, and both
update the running ones; MCD's authors do so. Without batch statistics the two differ in the draws of dropout alone.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from tlx.errors import TlxError
from tlx.losses.adversarial import warm_start
from tlx.losses.rows import in_float32
from tlx.methods.api import Batch, Carried, Losses
from tlx.methods.finetune import PREPARED, FineTune, LossSettings
from tlx.modalities.api import Fields, Prepare
from tlx.models.forward import Context, ModelState, forward
from tlx.models.model import Model, read_by_head
from tlx.parallel.axis import device_index

HEAD = "default"
SOURCE, TARGET = "train", "target"  # the streams
PREPARED_TARGET = 2  # the target is augmented with a key of its own
PASSES = ("joint", "separate")
USUAL_LOSS = LossSettings()


@struct.dataclass
class Domain:
    """The rows of one domain and what the model made of them.

    Attributes:
      features: (rows, hidden), what the head reads.
      logits: (rows, outputs).
      valid: float32 (rows,), 0 for padding.
      rows: the fields of the batch.
    """

    features: jax.Array
    logits: jax.Array
    valid: jax.Array
    rows: Fields


class TwoDomains(FineTune):
    """A method with a labelled source and an unlabelled target. A subclass adds losses by overriding `adaptation`.

    Args:
      model: a backbone with heads; the head `default` is trained.
      prepare: from a batch's rows to the model's inputs.
      settings: of the loss on the source's labels.
      trade_off: the weight of the adaptation.
      passes: `joint` or `separate`.
    """

    streams: tuple[str, ...] = (SOURCE, TARGET)
    needs_classes = True

    def __init__(
        self,
        model: Model,
        prepare: Prepare,
        settings: LossSettings = USUAL_LOSS,
        *,
        trade_off: float = 1.0,
        passes: str = "joint",
    ):
        super().__init__(model, {HEAD: "label"}, prepare, settings)
        if passes not in PASSES:
            raise TlxError(f"config.method.passes is {passes!r}; it is 'joint' or 'separate'.")
        if not trade_off >= 0:
            raise TlxError(f"config.method.trade_off is {trade_off}; it is at least 0.")
        kind = self.heads[HEAD].kind
        if kind != "classification" and (self.needs_classes or kind not in ("multilabel", "regression")):
            raise TlxError(f"the method {type(self).__name__} adapts classifiers; config.head.kind is {kind!r}.")
        self.trade_off, self.passes = trade_off, passes

    def losses(self, params: Any, batch: Batch, carried: Carried, context: Context) -> tuple[Losses, Carried]:
        """The loss on the source's labels, `task`, and those of `adaptation`."""
        source, target, carried = self.both(params, batch, carried, context)
        more = self.adaptation(params, source, target, carried, context)
        return {"task": self.task_loss(source), **more}, carried

    def adaptation(self, params: Any, source: Domain, target: Domain, carried: Carried, context: Context) -> Losses:
        """The losses that adapt: `{name: (total, count)}`, weighted by `trade_off`."""
        raise NotImplementedError

    def task_loss(self, source: Domain, logits: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
        """The loss on the source's labels, of its logits or of those given."""
        return self.loss_of[HEAD](source.logits if logits is None else logits, source.rows["label"], source.valid)

    def both(self, params: Any, batch: Batch, carried: Carried, context: Context) -> tuple[Domain, Domain, Carried]:
        """Runs the model on both domains; the state of the model is updated."""
        source, target = (self.inputs_of(batch, stream, context) for stream in (SOURCE, TARGET))
        if self.passes == "separate":
            key_of_target = jax.random.fold_in(context.key, PREPARED_TARGET)
            first, state = self.run(params, *source, carried.model, context)
            second, state = self.run(params, *target, state, dataclasses.replace(context, key=key_of_target))
        else:
            rows = {"valid": jnp.concatenate([source[1]["valid"], target[1]["valid"]])}
            together, state = self.run(params, _joined(source[0], target[0]), rows, carried.model, context)
            size = len(source[1]["valid"])
            first, second = (
                Domain(together.features[part], together.logits[part], together.valid[part], given)
                for part, given in ((slice(None, size), source[1]), (slice(size, None), target[1]))
            )
        return first, second, dataclasses.replace(carried, model=state)

    def one(self, params: Any, batch: Batch, stream: str, carried: Carried, context: Context) -> tuple[Domain, Carried]:
        """Runs the model on one domain; the state of the model is updated."""
        domain, state = self.run(params, *self.inputs_of(batch, stream, context), carried.model, context)
        return domain, dataclasses.replace(carried, model=state)

    def inputs_of(self, batch: Batch, stream: str, context: Context) -> tuple[dict[str, Any], Fields]:
        """The model's inputs from a stream's rows, and the rows."""
        key = jax.random.fold_in(context.key, PREPARED if stream == SOURCE else PREPARED_TARGET)
        return self.prepare(batch[stream], key)

    def run(
        self, params: Any, inputs: Mapping[str, Any], rows: Fields, state: ModelState, context: Context
    ) -> tuple[Domain, ModelState]:
        """Runs the model on prepared rows."""
        given = {**inputs, "valid": rows["valid"]} if self.reads_valid else inputs
        output, state = forward(self.model, params, state, given, context)
        features = in_float32(read_by_head(self.model, HEAD, output, inputs))
        return Domain(features, output.logits[HEAD], rows["valid"].astype(jnp.float32), rows), state


def _joined(source: Mapping[str, Any], target: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs of both domains, one after the other; what is not an array is the same for both."""
    return {
        name: jnp.concatenate([value, target[name]]) if hasattr(value, "shape") else value
        for name, value in source.items()
    }


def of_whole_batch(value: jax.Array, *domains: Domain) -> tuple[jax.Array, jax.Array]:
    """A loss that is a statistic of all rows, as `(total, count)`; without rows in a domain its count is 0.

    Of a batch in micro-batches it is the mean of their statistics.

    Raises:
      TlxError: under `jax.pmap`, where a device has only its own rows.
    """
    if device_index() is not None:
        raise TlxError(
            "parallel.mode is 'pmap', where a device has only its own rows; this method's loss is a statistic of the "
            "whole batch, so take 'jit'."
        )
    present = jnp.all(jnp.stack([domain.valid.sum() > 0 for domain in domains])).astype(value.dtype)
    return value * present, present


def grown(trade_off: float, alpha: float, context: Context) -> jax.Array | float:
    """The trade-off at a step, which grows from 0 as `losses.warm_start`; constant if alpha is 0."""
    progress = jnp.asarray(context.progress, float)
    return trade_off * warm_start(progress, alpha) if alpha else trade_off


def width_of(shapes: Any) -> int:
    """The length of the feature vector, from the shapes of the parameters of the head `default`."""
    head = shapes["heads"][HEAD]
    return int(head.get("dense", head["output"])["kernel"].shape[0])


def outputs_of(shapes: Any) -> int:
    """The number of outputs of the head `default`."""
    return int(shapes["heads"][HEAD]["output"]["kernel"].shape[1])
