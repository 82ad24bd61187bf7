"""Adaptation against a domain discriminator, through gradient reversal: DANN and CDAN.

One player and one update: the discriminator descends its loss, and the gradient that reaches the features through
`losses.gradient_reversal` has the opposite sign. Both methods assume the same classes in both domains; where class
frequencies differ, domain-invariant features must raise the target's error (Zhao et al. 2019).
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tlx.errors import TlxError
from tlx.losses.adversarial import (
    DOMAIN_SHARES,
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

    It assumes the same classes, about equally frequent in both domains. It fails where frequencies differ, where the
    discriminator always wins, and where the features move faster than the discriminator learns: its accuracy is then
    far below one half, and the domains change places instead of meeting. A smaller trade-off or rate of the backbone,
    or a larger rate of the discriminator (`config.params.head_multiplier`), helps.

    The trade-off is the factor of the reversed gradient and grows as `losses.warm_start`; the discriminator's own
    learning is not scaled.

    Of several sources (`config.data.sources`), `discriminators="each"` compares each source with the target by a
    discriminator of its own, and minimizes the mean of their losses. This is MDAN (Zhao et al. 2018) with equal weights
    of the sources, where the paper takes the maximum over them or a soft maximum. A source without rows in a batch adds
    the target's part of its loss alone.

    Args:
      model, prepare, settings, trade_off, passes: as in `TwoDomains`.
      discriminator: the widths of its hidden layers; the paper has (100,) for MNIST and (1024, 1024) for larger
        networks.
      warm_start: alpha of `losses.warm_start`; 0: the factor is constant.
      discriminators: "joint", one for all sources together, or "each".
      sources: the number of rows of each source; () for one.
      variant: `paper` or `tllib`, of `losses.domain_adversarial`: `tllib` halves the domain loss.
    """

    needs_classes = False

    def __init__(
        self, model: Model, prepare: Prepare, settings: LossSettings = USUAL_LOSS, *, trade_off: float = 1.0,
        passes: str = "joint", discriminator: Sequence[int] = (1024, 1024), warm_start: float = 10.0,
        discriminators: str = "joint", sources: Sequence[int] = (), variant: str = "paper",
    ):  # fmt: skip
        super().__init__(model, prepare, settings, trade_off=trade_off, passes=passes)
        if variant not in DOMAIN_SHARES:
            raise TlxError(f"config.method.variant is {variant!r}; expected {' or '.join(map(repr, DOMAIN_SHARES))}.")
        if discriminators not in ("joint", "each"):
            raise TlxError(f"config.method.discriminators is {discriminators!r}; it is 'joint' or 'each'.")
        if discriminators == "each" and len(sources) < 2:
            raise TlxError("config.method.discriminators is 'each', and there is one source; see config.data.sources.")
        self.discriminator, self.warm_start = Discriminator(tuple(discriminator)), warm_start
        self.variant, self.share = variant, DOMAIN_SHARES[variant]
        self.ends = np.cumsum(sources)  # the example_id after the last row of each source
        self.parts = tuple(f"source_{index}" for index in range(len(sources))) if discriminators == "each" else ()
        logged = tuple(f"{part}/{name}" for part in self.parts for name in ACCURACIES) or ACCURACIES
        self.updates = (Update(self.losses, ("model",), only_logged=logged),)

    def init(self, key: jax.Array, shapes: Any) -> tuple[Any, Any]:
        """The parameters of the discriminator, or of each."""
        return self.discriminator.initial(key, width_of(shapes), self.parts), {}

    def reversal(self, context: Context) -> jax.Array | float:
        """The factor of the reversed gradient at this step."""
        return grown(self.trade_off, self.warm_start, context)

    def adaptation(self, params: Any, source: Domain, target: Domain, carried: Carried, context: Context) -> Losses:
        """The loss and accuracy of the discriminator, or of each, in each domain."""
        reversed_features = [gradient_reversal(each.features, self.reversal(context)) for each in (source, target)]
        if not self.parts:
            return self._against(params, "", reversed_features, (source.valid, target.valid))
        of_source = jnp.searchsorted(jnp.asarray(self.ends), source.rows["example_id"], side="right")
        found: Losses = {}
        for index, part in enumerate(self.parts):
            valid = source.valid * (of_source == index), target.valid
            for name, (total, count) in self._against(params, part, reversed_features, valid).items():
                share = 1 if name in ACCURACIES else 1 / len(self.parts)
                found[f"{part}/{name}"] = share * total, count
        return found

    def _against(self, params: Any, part: str, features: Sequence[jax.Array], valid: Sequence[jax.Array]) -> Losses:
        """The loss and accuracy of one discriminator on the rows of the source and those of the target."""
        found: Losses = {}
        for name, rows, weight in zip(("source_domain", "target_domain"), features, valid, strict=True):
            logits = self.discriminator.logits(params, rows, part)
            total, count = domain_cross_entropy(logits, name == "source_domain", weight)
            found[name] = self.share * total, count
            found[f"{name}_accuracy"] = domain_accuracy(logits, name == "source_domain", weight)
        return found


class Cdan(Dann):
    """Conditional domain-adversarial network (Long et al. 2018): the discriminator reads `losses.cdan_map`.

    It assumes what `Dann` assumes, and predictions that are mostly right at the start: wrong ones are confirmed. It
    fails as `Dann` does.

    Features and logits are reversed where they enter, so that the gradient through the entropy weights is reversed too,
    as in the paper's objective.

    Args:
      model, prepare, settings, trade_off, passes, discriminator, warm_start: as in `Dann`.
      entropy: whether rows are weighted by their certainty (CDAN+E).
      variant: `paper` or `tllib`, of `losses.cdan_map` and `losses.entropy_weights`; `tllib` also halves the domain
        loss, which there is the mean over the rows of both domains, taken as equally many.
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
            trade_off=trade_off, passes=passes, discriminator=discriminator, warm_start=warm_start, variant=variant,
        )  # fmt: skip
        self.entropy, self.randomized_size = entropy, randomized_size

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
            losses[name] = self.share * total, domain.valid.sum()
            losses[f"{name}_accuracy"] = domain_accuracy(found, domain is sides[0], domain.valid)
        return losses
