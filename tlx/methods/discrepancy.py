"""Adaptation by a discrepancy of the two domains' features: DAN, JAN and Deep CORAL.

All assume that the classes are the same and about equally frequent in both domains: where the frequencies differ, an
aligned feature distribution assigns target examples to wrong classes.
"""

from collections.abc import Sequence
from typing import Any

import jax

from tlx.errors import TlxError, listed
from tlx.losses.covariance import coral
from tlx.losses.mmd import jmmd, mk_mmd
from tlx.methods.api import Carried, Context, Losses
from tlx.methods.finetune import LossSettings
from tlx.methods.two_domains import USUAL_LOSS, Domain, TwoDomains, grown, of_whole_batch
from tlx.modalities.api import Prepare
from tlx.models.model import Model

LAYERS = ("features", "logits", "probabilities")


class Discrepancy(TwoDomains):
    """The task's loss plus `trade_off` times a discrepancy of layers.

    Args:
      model, prepare, settings, trade_off, passes: as in `TwoDomains`.
      layers: what is aligned: `features` (what the head reads), `logits`, `probabilities`.
      variant: of the loss; see its docstring.
      warm_start: how fast the trade-off grows from 0 to its value, `losses.warm_start`'s alpha; 0: it is constant.
    """

    needs_classes = False

    def __init__(
        self, model: Model, prepare: Prepare, settings: LossSettings = USUAL_LOSS, *, trade_off: float = 1.0,
        passes: str = "joint", layers: Sequence[str] = ("features",), variant: str = "paper", warm_start: float = 0.0,
    ):  # fmt: skip
        super().__init__(model, prepare, settings, trade_off=trade_off, passes=passes)
        if not layers or set(layers) - set(LAYERS):
            raise TlxError(f"config.method.layers is {tuple(layers)}; it has some of {listed(LAYERS)}.")
        self.layers, self.variant, self.warm_start = tuple(layers), variant, warm_start

    def adaptation(self, params: Any, source: Domain, target: Domain, carried: Carried, context: Context) -> Losses:
        """The discrepancy, of the rows that are valid."""
        sides = [[_layer(domain, name) for name in self.layers] for domain in (source, target)]
        factor = grown(self.trade_off, self.warm_start, context)
        value = self.between(sides[0], sides[1], source.valid, target.valid)
        return {"discrepancy": of_whole_batch(factor * value, source, target)}

    def between(
        self, source: list[jax.Array], target: list[jax.Array], source_valid: jax.Array, target_valid: jax.Array
    ) -> jax.Array:
        """The discrepancy of the layers, ()."""
        raise NotImplementedError


class Dan(Discrepancy):
    """Deep adaptation network (Long et al. 2015): the sum over layers of `losses.mk_mmd`.

    It assumes the same classes, about equally frequent in both domains, and fails where frequencies differ.

    The paper aligns the upper layers up to the logits; here they are what the head reads and the logits. The paper's
    estimate takes linear time and is noisy for small batches; `estimator="unbiased"` uses all pairs.

    The paper begins with a pretrained network. Where the classifier is new, set `warm_start` (10, as in JAN): logits
    that are aligned before they tell the classes apart may be aligned with the classes exchanged, and then the target's
    accuracy ends below chance, while the discrepancy is low (tests/methods/test_adaptation_trains.py).
    """

    def __init__(
        self, model: Model, prepare: Prepare, settings: LossSettings = USUAL_LOSS, *, trade_off: float = 1.0,
        passes: str = "joint", layers: Sequence[str] = ("features", "logits"), variant: str = "paper",
        warm_start: float = 0.0, estimator: str | None = None,
    ):  # fmt: skip
        super().__init__(
            model, prepare, settings,
            trade_off=trade_off, passes=passes, layers=layers, variant=variant, warm_start=warm_start,
        )  # fmt: skip
        self.estimator = estimator

    def between(
        self, source: list[jax.Array], target: list[jax.Array], source_valid: jax.Array, target_valid: jax.Array
    ) -> jax.Array:
        values = [
            mk_mmd(x, y, source_valid, target_valid, variant=self.variant, estimator=self.estimator)
            for x, y in zip(source, target, strict=True)
        ]
        return sum(values[1:], values[0])


class Jan(Dan):
    """Joint adaptation network (Long et al. 2017): `losses.jmmd` of features and class probabilities.

    The trade-off grows from 0 as in DANN. It assumes the same classes, about equally frequent in both domains. It fails
    where predictions of the target are mostly wrong at the start, because they are a part of what is aligned.
    """

    needs_classes = True

    def __init__(
        self, model: Model, prepare: Prepare, settings: LossSettings = USUAL_LOSS, *, trade_off: float = 1.0,
        passes: str = "joint", layers: Sequence[str] = ("features", "probabilities"), variant: str = "paper",
        warm_start: float = 10.0, estimator: str | None = None,
    ):  # fmt: skip
        super().__init__(
            model, prepare, settings, trade_off=trade_off, passes=passes, layers=layers, variant=variant,
            warm_start=warm_start, estimator=estimator,
        )  # fmt: skip

    def between(
        self, source: list[jax.Array], target: list[jax.Array], source_valid: jax.Array, target_valid: jax.Array
    ) -> jax.Array:
        return jmmd(source, target, source_valid, target_valid, variant=self.variant, estimator=self.estimator)


class DeepCoral(Discrepancy):
    """Deep CORAL (Sun & Saenko 2016): `losses.coral` of the logits, the layer that the paper aligns.

    The paper chooses the trade-off such that both losses are of about the same size at the end of training; there is no
    number to take over. It assumes the same classes, about equally frequent, and a shift that covariances show. It
    fails where frequencies differ, and where the means are shifted, which the paper's form does not see.
    """

    def __init__(
        self, model: Model, prepare: Prepare, settings: LossSettings = USUAL_LOSS, *, trade_off: float = 1.0,
        passes: str = "joint", layers: Sequence[str] = ("logits",), variant: str = "paper", warm_start: float = 0.0,
    ):  # fmt: skip
        super().__init__(
            model, prepare, settings,
            trade_off=trade_off, passes=passes, layers=layers, variant=variant, warm_start=warm_start,
        )  # fmt: skip

    def between(
        self, source: list[jax.Array], target: list[jax.Array], source_valid: jax.Array, target_valid: jax.Array
    ) -> jax.Array:
        values = [
            coral(x, y, source_valid, target_valid, variant=self.variant) for x, y in zip(source, target, strict=True)
        ]
        return sum(values[1:], values[0])


def _layer(domain: Domain, name: str) -> jax.Array:
    if name == "probabilities":
        return jax.nn.softmax(domain.logits)
    return domain.features if name == "features" else domain.logits
