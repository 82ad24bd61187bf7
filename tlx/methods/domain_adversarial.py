"""Adaptation against a domain discriminator, through gradient reversal: DANN and CDAN.

One player and one update: the discriminator descends its loss, and the gradient that reaches the features through
`losses.gradient_reversal` has the opposite sign. Both methods assume the same classes in both domains; where class
frequencies differ, domain-invariant features must raise the target's error (Zhao et al. 2019).
"""

from collections.abc import Sequence
from typing import Any

import jax

from tlx.errors import TlxError
from tlx.losses.adversarial import (
    MULTILINEAR_LIMIT,
    cdan_map,
    cdan_projections,
    domain_accuracy,
    domain_cross_entropy,
    entropy_weights,
    gradient_reversal,
)
from tlx.methods.api import Carried, Context, Losses, Update
from tlx.methods.discriminator import ACCURACIES, Discriminator
from tlx.methods.finetune import LossSettings
from tlx.methods.two_domains import USUAL_LOSS, Domain, TwoDomains, grown, outputs_of, width_of
from tlx.modalities.api import Prepare
from tlx.models.model import Model


class Dann(TwoDomains):
    """Domain-adversarial network (Ganin et al. 2016).

    The trade-off is the factor of the reversed gradient and grows as `losses.warm_start`; the discriminator's own
    learning is not scaled.

    Args:
      model, prepare, settings, trade_off, passes: as in `TwoDomains`.
      discriminator: the widths of its hidden layers; the paper has (100,) for MNIST and (1024, 1024) for larger
        networks.
      warm_start: alpha of `losses.warm_start`; 0: the factor is constant.
    """

    needs_classes = False

    def __init__(
        self, model: Model, prepare: Prepare, settings: LossSettings = USUAL_LOSS, *, trade_off: float = 1.0,
        passes: str = "joint", discriminator: Sequence[int] = (1024, 1024), warm_start: float = 10.0,
    ):  # fmt: skip
        super().__init__(model, prepare, settings, trade_off=trade_off, passes=passes)
        self.discriminator, self.warm_start = Discriminator(tuple(discriminator)), warm_start
        self.updates = (Update(self.losses, ("model",), only_logged=ACCURACIES),)

    def init(self, key: jax.Array, shapes: Any) -> tuple[Any, Any]:
        """The discriminator's parameters."""
        return self.discriminator.initial(key, width_of(shapes)), {}

    def reversal(self, context: Context) -> jax.Array | float:
        """The factor of the reversed gradient at this step."""
        return grown(self.trade_off, self.warm_start, context)

    def adaptation(self, params: Any, source: Domain, target: Domain, carried: Carried, context: Context) -> Losses:
        """The discriminator's loss and accuracy in each domain."""
        found = {}
        for name, domain in (("source_domain", source), ("target_domain", target)):
            logits = self.discriminator.logits(params, gradient_reversal(domain.features, self.reversal(context)))
            found[name] = domain_cross_entropy(logits, domain is source, domain.valid)
            found[f"{name}_accuracy"] = domain_accuracy(logits, domain is source, domain.valid)
        return found


class Cdan(Dann):
    """Conditional domain-adversarial network (Long et al. 2018): the discriminator reads `losses.cdan_map`.

    Features and logits are reversed where they enter, so that the gradient through the entropy weights is reversed too,
    as in the paper's objective.

    Args:
      model, prepare, settings, trade_off, passes, discriminator, warm_start: as in `Dann`.
      entropy: whether rows are weighted by their certainty (CDAN+E).
      variant: `paper` or `tllib`, of `losses.cdan_map` and `losses.entropy_weights`.
      randomized_size: the number of random features where features × classes exceed 4,096.
    """

    needs_classes = True

    def __init__(
        self, model: Model, prepare: Prepare, settings: LossSettings = USUAL_LOSS, *, trade_off: float = 1.0,
        passes: str = "joint", discriminator: Sequence[int] = (1024, 1024), warm_start: float = 10.0,
        entropy: bool = False, variant: str = "paper", randomized_size: int = 1024,
    ):  # fmt: skip
        super().__init__(
            model, prepare, settings,
            trade_off=trade_off, passes=passes, discriminator=discriminator, warm_start=warm_start,
        )  # fmt: skip
        if variant not in ("paper", "tllib"):
            raise TlxError(f"config.method.variant is {variant!r}; CDAN has 'paper' and 'tllib'.")
        self.entropy, self.variant, self.randomized_size = entropy, variant, randomized_size

    def init(self, key: jax.Array, shapes: Any) -> tuple[Any, Any]:
        """The discriminator's parameters; as the method's state the random projections, if there are any."""
        hidden, classes = width_of(shapes), outputs_of(shapes)
        if hidden * classes <= MULTILINEAR_LIMIT:
            return self.discriminator.initial(key, hidden * classes), {}
        of_discriminator, of_projections = jax.random.split(key)
        projections = cdan_projections(of_projections, hidden, classes, self.randomized_size)
        return self.discriminator.initial(of_discriminator, self.randomized_size), {"projections": projections}

    def adaptation(self, params: Any, source: Domain, target: Domain, carried: Carried, context: Context) -> Losses:
        """The discriminator's loss and accuracy in each domain.

        The loss of CDAN+E is the sum of weighted losses over the number of rows; the accuracy is not weighted.
        """
        alpha = self.reversal(context)
        sides = [
            domain.replace(  # type: ignore[attr-defined]
                features=gradient_reversal(domain.features, alpha), logits=gradient_reversal(domain.logits, alpha)
            )
            for domain in (source, target)
        ]
        weights: Sequence[jax.Array] = [domain.valid for domain in sides]
        if self.entropy:
            logits, valid = ([getattr(domain, name) for domain in sides] for name in ("logits", "valid"))
            weights = entropy_weights(*logits, *valid, variant=self.variant)
        losses = {}
        for name, domain, weight in zip(("source_domain", "target_domain"), sides, weights):
            mapped = cdan_map(domain.features, domain.logits, carried.method.get("projections"), variant=self.variant)
            found = self.discriminator.logits(params, mapped)
            total, _ = domain_cross_entropy(found, domain is sides[0], weight)
            losses[name] = total, domain.valid.sum()
            losses[f"{name}_accuracy"] = domain_accuracy(found, domain is sides[0], domain.valid)
        return losses
