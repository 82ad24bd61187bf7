"""Maximum classifier discrepancy (Saito et al. 2018): two classifiers against the feature generator.

Where the classifiers disagree, target examples are outside the source's classes; the generator moves them inside.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from tlx.losses.predictions import mcd_discrepancy
from tlx.methods.api import Batch, Carried, Context, Losses, Update
from tlx.methods.finetune import LossSettings
from tlx.methods.two_domains import HEAD, SOURCE, TARGET, USUAL_LOSS, Domain, TwoDomains
from tlx.modalities.api import Prepare
from tlx.models.forward import forward
from tlx.models.model import Model
from tlx.params.paths import flatten, unflatten

SECOND = "second_classifier"
SECOND_DROPOUT = 3  # the second classifier has dropout of its own


class Mcd(TwoDomains):
    """Three updates of each batch (steps A, B and C of the paper):

    A. generator and classifiers minimize the loss on the source's labels;
    B. the classifiers minimize that loss minus the discrepancy of their predictions on the target;
    C. the generator minimizes the discrepancy, `generator_steps` times.

    It assumes the same classes in both domains. It fails where the target is far from the source, so that both
    classifiers agree and are wrong, and where few target examples are near the boundaries, so that they hardly
    disagree.

    The first classifier is the model's head, which evaluation and export read; the second has the same layers, at
    `aux/second_classifier`, with kernels drawn anew.

    Args:
      model, prepare, settings, trade_off, passes: as in `TwoDomains`; the trade-off weighs the discrepancy.
      generator_steps: n of the paper, which has 2 to 4 for digits.
    """

    players: Mapping[str, Any] = {
        "classifiers": ((r"(heads|aux)/.*", True),),
        "generator": ((r".*", True),),
    }

    def __init__(
        self, model: Model, prepare: Prepare, settings: LossSettings = USUAL_LOSS, *, trade_off: float = 1.0,
        passes: str = "separate", generator_steps: int = 4,
    ):  # fmt: skip
        super().__init__(model, prepare, settings, trade_off=trade_off, passes=passes)
        self.updates = (
            Update(self.source_losses, ("generator", "classifiers"), name="source"),
            Update(self.classifier_losses, ("classifiers",), name="classifiers"),
            Update(self.generator_losses, ("generator",), name="generator", repeat=generator_steps),
        )

    def init(self, key: jax.Array, shapes: Any) -> tuple[Any, Any]:
        """The second classifier: kernels with the family's standard deviation, biases 0."""
        deviation, drawn = self.model.head_settings.initializer_range, {}
        for index, (path, leaf) in enumerate(sorted(flatten(shapes["heads"][HEAD]).items())):
            normal = deviation * jax.random.normal(jax.random.fold_in(key, index), leaf.shape, leaf.dtype)
            drawn[path] = normal if path.endswith("kernel") else jnp.zeros(leaf.shape, leaf.dtype)
        return {SECOND: unflatten(drawn)}, {}

    def source_losses(self, params: Any, batch: Batch, carried: Carried, context: Context) -> tuple[Losses, Carried]:
        """Step A: both classifiers on the source's labels."""
        source, carried = self.one(params, batch, SOURCE, carried, context)
        return self._labels(params, source, context), carried

    def classifier_losses(
        self, params: Any, batch: Batch, carried: Carried, context: Context
    ) -> tuple[Losses, Carried]:
        """Step B: the same, minus the discrepancy on the target."""
        source, target, carried = self.both(params, batch, carried, context)
        return {**self._labels(params, source, context), "apart": self._apart(params, target, context, -1)}, carried

    def generator_losses(self, params: Any, batch: Batch, carried: Carried, context: Context) -> tuple[Losses, Carried]:
        """Step C: the discrepancy on the target."""
        target, carried = self.one(params, batch, TARGET, carried, context)
        return {"apart": self._apart(params, target, context, 1)}, carried

    def _labels(self, params: Any, source: Domain, context: Context) -> Losses:
        second = self._second(params, source, context)
        return {"task": self.task_loss(source), "second_task": self.task_loss(source, second)}

    def _apart(self, params: Any, target: Domain, context: Context, sign: int) -> tuple[jax.Array, jax.Array]:
        count = target.valid.sum()
        mean = mcd_discrepancy(target.logits, self._second(params, target, context), target.valid)
        return sign * self.trade_off * mean * count, count

    def _second(self, params: Any, domain: Domain, context: Context) -> jax.Array:
        """The second classifier's logits, by the model's own head with other parameters."""
        heads = {"heads": {**params["heads"], HEAD: params["aux"][SECOND]}}
        key = jax.random.fold_in(context.key, SECOND_DROPOUT)
        inputs = {"pooled": domain.features[:, None]}
        output, _ = forward(self.model, heads, {}, inputs, dataclasses.replace(context, key=key))
        found: jax.Array = output.logits[HEAD]
        return found
