"""Adaptation by optimal transport of features and labels together: DeepJDOT."""

from typing import Any

from tlx.losses.transport import sinkhorn_alignment
from tlx.methods.api import Carried, Context, Losses
from tlx.methods.finetune import LossSettings
from tlx.methods.two_domains import USUAL_LOSS, Domain, TwoDomains, of_whole_batch
from tlx.modalities.api import Prepare
from tlx.models.model import Model


class DeepJdot(TwoDomains):
    """DeepJDOT (Damodaran et al. 2018): `losses.sinkhorn_alignment` of features, source labels and target predictions.

    Needs ott-jax (the extra `adaptation`). It assumes the same classes with about the same frequencies in every batch
    of both domains, because the coupling transports all rows. It fails where frequencies differ: target rows are
    matched with source rows of other classes. The paper draws source batches with equally many rows of each class.

    Args:
      model, prepare, settings, trade_off, passes: as in `TwoDomains`; the paper's loss has the trade-off 1.
      feature_weight: α of the paper, of the squared distance of features.
      label_weight: λ_t of the paper, of the cross entropy of target predictions against source labels.
      epsilon: of the regularization, as a share of the mean cost; the paper has none.
    """

    def __init__(
        self, model: Model, prepare: Prepare, settings: LossSettings = USUAL_LOSS, *, trade_off: float = 1.0,
        passes: str = "joint", feature_weight: float = 0.001, label_weight: float = 0.0001, epsilon: float = 0.01,
    ):  # fmt: skip
        super().__init__(model, prepare, settings, trade_off=trade_off, passes=passes)
        self.feature_weight, self.label_weight, self.epsilon = feature_weight, label_weight, epsilon

    def adaptation(self, params: Any, source: Domain, target: Domain, carried: Carried, context: Context) -> Losses:
        """The cost of the coupling of both domains' rows."""
        value = sinkhorn_alignment(
            source.features, target.features, source.rows["label"], target.logits, source.valid, target.valid,
            feature_weight=self.feature_weight, label_weight=self.label_weight, epsilon=self.epsilon,
        )  # fmt: skip
        return {"transport": of_whole_batch(self.trade_off * value, source, target)}
