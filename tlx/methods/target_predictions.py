"""Adaptation by what is wished of the target's predictions: MCC and entropy minimization.

Both trust the source's classifier: where most target predictions are wrong at the start, they make them more certain,
not more right.
"""

from typing import Any

from tlx.losses.predictions import entropy, minimum_class_confusion
from tlx.methods.api import Carried, Context, Losses
from tlx.methods.finetune import LossSettings
from tlx.methods.two_domains import USUAL_LOSS, Domain, TwoDomains, of_whole_batch
from tlx.modalities.api import Prepare
from tlx.models.model import Model


class Mcc(TwoDomains):
    """Minimum class confusion (Jin et al. 2020): `losses.minimum_class_confusion` of the target.

    It assumes that the target's classes are among the source's, and that most target predictions are right at the
    start. It fails where they are not: it makes wrong predictions certain.

    Args:
      model, prepare, settings, trade_off, passes: as in `TwoDomains`.
      temperature: of the predictions.
      variant: of the loss.
    """

    def __init__(
        self, model: Model, prepare: Prepare, settings: LossSettings = USUAL_LOSS, *, trade_off: float = 1.0,
        passes: str = "joint", temperature: float = 2.5, variant: str = "paper",
    ):  # fmt: skip
        super().__init__(model, prepare, settings, trade_off=trade_off, passes=passes)
        self.temperature, self.variant = temperature, variant

    def adaptation(self, params: Any, source: Domain, target: Domain, carried: Carried, context: Context) -> Losses:
        """The confusion of classes in the target's batch."""
        value = minimum_class_confusion(
            target.logits, target.valid, temperature=self.temperature, variant=self.variant
        )  # fmt: skip
        return {"confusion": of_whole_batch(self.trade_off * value, target)}


class EntropyMinimization(TwoDomains):
    """The mean entropy of the target's predictions (Grandvalet & Bengio 2005).

    It assumes the same classes in both domains and a boundary between them that few target examples are near. The paper
    chooses the trade-off by cross-validation; it fails with a large one, which makes all predictions the same class,
    and where predictions are wrong at the start.

    Args:
      model, prepare, settings, trade_off, passes: as in `TwoDomains`.
      variant: of `losses.entropy`.
    """

    def __init__(
        self, model: Model, prepare: Prepare, settings: LossSettings = USUAL_LOSS, *, trade_off: float = 0.1,
        passes: str = "joint", variant: str = "paper",
    ):  # fmt: skip
        super().__init__(model, prepare, settings, trade_off=trade_off, passes=passes)
        self.variant = variant

    def adaptation(self, params: Any, source: Domain, target: Domain, carried: Carried, context: Context) -> Losses:
        """The sum of the rows' entropies."""
        count = target.valid.sum()
        mean = entropy(target.logits, target.valid, variant=self.variant)
        return {"entropy": (self.trade_off * mean * count, count)}
