"""Methods that begin with a model trained on the source: ADDA, SHOT and pseudo-labels.

`source_fraction` is the share of the run that trains on the source alone; `recipes/phases.py` makes the two phases of
it, each with the whole learning rate schedule, and the checkpoint is selected among those of the second.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tlx.errors import TlxError
from tlx.losses.adversarial import domain_accuracy, domain_cross_entropy
from tlx.losses.predictions import information_maximization
from tlx.losses.supervised import cross_entropy
from tlx.methods.api import Batch, Carried, Context, Losses, StreamOutputs, Update
from tlx.methods.discriminator import ACCURACIES, Discriminator
from tlx.methods.finetune import LossSettings
from tlx.methods.two_domains import SOURCE, TARGET, USUAL_LOSS, Domain, TwoDomains, of_whole_batch, width_of
from tlx.modalities.api import Prepare
from tlx.models.forward import EVALUATION, ModelState
from tlx.models.model import Model

CLASSIFIER = {"classifier": ((r"heads/.*", True),)}  # a player that is in no update


class Pseudo(TwoDomains):
    """Base class of methods with a label of each target example, computed anew before each epoch.

    Args:
      model, prepare, settings, trade_off, passes: as in `TwoDomains`; the trade-off weighs the loss on these labels.
      source_fraction: the share of the run that trains on the source alone.
      target_size: the number of target examples.
    """

    def __init__(
        self, model: Model, prepare: Prepare, settings: LossSettings = USUAL_LOSS, *, trade_off: float = 1.0,
        passes: str = "joint", source_fraction: float = 0.5, target_size: int = 0,
    ):  # fmt: skip
        super().__init__(model, prepare, settings, trade_off=trade_off, passes=passes)
        self.target_size, self.before_epoch = target_size, self.label

    def init(self, key: jax.Array, shapes: Any) -> tuple[Any, Any]:
        """As the method's state the labels, int32 (target examples,), and float32 1 for those that count."""
        return {}, {"labels": jnp.zeros(self.target_size, jnp.int32), "counted": jnp.zeros(self.target_size)}

    def label(self, state: Any, params: Any, epoch: int, outputs: StreamOutputs) -> Any:
        """The labels by the model as it is."""
        raise NotImplementedError

    def on_labels(
        self, batch: Batch, target: Domain, carried: Carried, share: jax.Array | float = 1.0
    ) -> tuple[jax.Array, jax.Array]:
        """The cross entropy on the labels: its sum over the rows that count, times the trade-off; their number.

        `share` is the part of the trade-off at this step.
        """
        rows = batch[TARGET]["position"]  # -1 for padding, which is not valid
        weight = target.valid * carried.method["counted"][rows]
        total, count = cross_entropy(target.logits, carried.method["labels"][rows], weight)
        return self.trade_off * share * total, count


class PseudoLabels(Pseudo):
    """Self-training on the model's own predictions of the target (Lee 2013), together with the source.

    The paper's labels are those of each step and all of them count; here they are computed before each epoch, and only
    those with a probability of `threshold` or more count. As in the paper the weight of their loss is 0 at first, grows
    linearly and then stays at 3 (equation 16), where the paper counts epochs, from 100 to 600 of them.

    It assumes the same classes, and that confident predictions are right. It fails where they are not: it confirms its
    errors, and classes that are predicted rarely disappear.

    Args:
      model, prepare, settings, passes, target_size: as in `Pseudo`.
      trade_off: the last weight of the loss on the labels.
      source_fraction: the share of the run that trains on the source alone, with weight 0.
      ramp: the share of the rest over which the weight grows; 0: it is constant.
      threshold: the least probability; 0: all labels count, as in the paper.
    """

    def __init__(
        self, model: Model, prepare: Prepare, settings: LossSettings = USUAL_LOSS, *, trade_off: float = 3.0,
        passes: str = "joint", source_fraction: float = 0.5, ramp: float = 0.5, threshold: float = 0.0,
        target_size: int = 0,
    ):  # fmt: skip
        super().__init__(
            model, prepare, settings,
            trade_off=trade_off, passes=passes, source_fraction=source_fraction, target_size=target_size,
        )  # fmt: skip
        if not 0 <= threshold <= 1:
            raise TlxError(f"config.method.threshold is {threshold}; it is a probability, 0 to 1.")
        if not 0 <= ramp <= 1:
            raise TlxError(f"config.method.ramp is {ramp}; it is a share of the run after the source's, 0 to 1.")
        self.threshold, self.source_fraction, self.ramp = threshold, source_fraction, ramp

    def share(self, context: Context) -> jax.Array | float:
        """The part of the trade-off at a step, 0 to 1."""
        grows = self.ramp * (1 - self.source_fraction)
        return jnp.clip((context.progress - self.source_fraction) / grows, 0, 1) if grows else 1.0

    def label(self, state: Any, params: Any, epoch: int, outputs: StreamOutputs) -> Any:
        del state, params, epoch
        p = np.asarray(jax.nn.softmax(jnp.asarray(outputs(TARGET), jnp.float32)))
        counted = p.max(axis=1) >= self.threshold
        return {"labels": p.argmax(axis=1).astype(np.int32), "counted": counted.astype(np.float32)}

    def losses(self, params: Any, batch: Batch, carried: Carried, context: Context) -> tuple[Losses, Carried]:
        """The loss on the source's labels, and the one on the target's pseudo-labels."""
        source, target, carried = self.both(params, batch, carried, context)
        pseudo = self.on_labels(batch, target, carried, self.share(context))
        return {"task": self.task_loss(source), "pseudo": pseudo}, carried


class Shot(Pseudo):
    """Source hypothesis transfer (SHOT: Liang et al. 2020, section 3): the second phase reads no source example.

    The head stays as the source made it. The rest minimizes `losses.information_maximization` of the target plus
    `trade_off` times the cross entropy on pseudo-labels, those of the nearest class centroid in cosine distance. The
    paper trains the source with label smoothing 0.1 (config.loss.label_smoothing), and has a bottleneck with batch norm
    and a weight-normalized head, which are not made here. It assumes the same classes, about equally frequent in the
    target. It fails where they are not, because the entropy of the mean prediction draws every class to the same share,
    and where the source's model is mostly wrong on the target.

    The second phase learns without source examples, but the run is not source-free: by default the checkpoint is chosen
    by validation on the source (`config.train.monitor="validator/entropy"`, say, chooses by the target), and an epoch,
    before which labels are computed anew, is one of the source, where the paper's is one of the target.

    Args:
      model, prepare, settings, source_fraction, target_size: as in `Pseudo`.
      trade_off: the paper's β: 0.3, and 0.1 for digits.
      variant: `paper`; `authors`, as in the authors' code: of `losses.information_maximization`, with an epsilon in the
        logarithms, and of `centroid_labels`.
    """

    streams: tuple[str, ...] = (TARGET,)
    players: Mapping[str, Any] = {**CLASSIFIER, "encoder": ((r".*", True),)}

    def __init__(
        self, model: Model, prepare: Prepare, settings: LossSettings = USUAL_LOSS, *, trade_off: float = 0.3,
        source_fraction: float = 0.5, variant: str = "paper", target_size: int = 0,
    ):  # fmt: skip
        super().__init__(
            model, prepare, settings, trade_off=trade_off, source_fraction=source_fraction, target_size=target_size
        )
        if variant not in ("paper", "authors"):
            raise TlxError(f"config.method.variant is {variant!r}; SHOT has 'paper' and 'authors'.")
        self.variant, self.updates = variant, (Update(self.losses, ("encoder",)),)

    def label(self, state: Any, params: Any, epoch: int, outputs: StreamOutputs) -> Any:
        del state, params, epoch
        labels = centroid_labels(outputs.features(TARGET), outputs(TARGET), variant=self.variant)
        return {"labels": labels, "counted": np.ones(len(labels), np.float32)}

    def losses(self, params: Any, batch: Batch, carried: Carried, context: Context) -> tuple[Losses, Carried]:
        """The information maximization of the target's batch, and the loss on its pseudo-labels."""
        target, carried = self.one(params, batch, TARGET, carried, context)
        information = information_maximization(target.logits, target.valid, variant=self.variant)
        losses = {"information": of_whole_batch(information, target), "pseudo": self.on_labels(batch, target, carried)}
        return losses, carried


def centroid_labels(features: np.ndarray, logits: np.ndarray, *, variant: str = "paper") -> np.ndarray:
    """The class of the nearest centroid in cosine distance, computed twice (SHOT, section 3.3, equations 5 and 6).

    The first centroids are means of the features weighted by the predicted probabilities, the second are means of the
    features that the first ones gave to each class. A class that got none keeps no centroid.

    Args:
      features: (n, hidden).
      logits: (n, classes).
      variant: `paper`; `authors`, whose code appends a feature of 1 and then gives each row the length 1, so that long
        rows weigh as much as short ones in a centroid.

    Returns:
      int32 (n,).
    """
    from scipy.special import softmax

    rows = np.asarray(features, np.float64)
    if variant == "authors":
        rows = _unit(np.concatenate([rows, np.ones((len(rows), 1))], axis=1))
    weights = softmax(np.asarray(logits, np.float64), axis=1)
    labels = np.zeros(len(rows), np.int64)
    for _ in range(2):
        centroids = weights.T @ rows / np.maximum(weights.sum(axis=0), 1e-12)[:, None]
        similarity = _unit(rows) @ _unit(centroids).T
        labels = np.where(weights.sum(axis=0) > 0, similarity, -np.inf).argmax(axis=1)
        weights = np.eye(weights.shape[1])[labels]
    return labels.astype(np.int32)


def _unit(rows: np.ndarray) -> np.ndarray:
    """Returns the rows with length 1; a row of zeros stays."""
    scaled: np.ndarray = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return scaled


class Adda(TwoDomains):
    """Adversarial discriminative domain adaptation (Tzeng et al. 2017): two encoders, and labels inverted as in GANs.

    In the second phase the source's encoder is a copy that stays as it is, and so does the head. The discriminator
    learns to tell the domains' features apart; the encoder of the target, which begins as that copy and is the one that
    is evaluated, learns to have its features taken for the source's. It assumes the same classes, about equally
    frequent. It fails where the target's encoder moves far: nothing ties classes to each other, they may be exchanged.

    Args:
      model, prepare, settings: as in `TwoDomains`.
      discriminator: the widths of its hidden layers, the paper's for digits.
      source_fraction: the share of the run that trains on the source alone.
      model_state: the model's collections, as arrays or shapes.
    """

    players: Mapping[str, Any] = {
        **CLASSIFIER, "discriminator": ((r"aux/.*", True),), "encoder": ((r".*", True),),
    }  # fmt: skip
    needs_classes = False

    def __init__(
        self, model: Model, prepare: Prepare, settings: LossSettings = USUAL_LOSS, *,
        discriminator: Sequence[int] = (500, 500), source_fraction: float = 0.5, model_state: ModelState | None = None,
    ):  # fmt: skip
        super().__init__(model, prepare, settings)
        self.discriminator, self.model_state = Discriminator(tuple(discriminator)), model_state or {}
        self.before_epoch = self.copy
        self.updates = (
            Update(self.discriminator_losses, ("discriminator",), name="discriminator", only_logged=ACCURACIES),
            Update(self.encoder_losses, ("encoder",), name="encoder"),
        )

    def init(self, key: jax.Array, shapes: Any) -> tuple[Any, Any]:
        """The discriminator's parameters; as the method's state the source's encoder, which `copy` fills."""
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), (_encoder(shapes), self.model_state))
        return self.discriminator.initial(key, width_of(shapes)), {"params": zeros[0], "model_state": zeros[1]}

    def copy(self, state: Any, params: Any, epoch: int, outputs: StreamOutputs) -> Any:
        """The encoder at the start of the phase; later the state as it is."""
        if epoch > 0:
            return state
        return jax.tree.map(jnp.copy, {"params": _encoder(params), "model_state": outputs.model_state})

    def discriminator_losses(
        self, params: Any, batch: Batch, carried: Carried, context: Context
    ) -> tuple[Losses, Carried]:
        """The discriminator's loss and accuracy in each domain, on the source's features by the encoder that stays."""
        target, after = self.one(params, batch, TARGET, carried, context)
        kept = {**params, **carried.method["params"]}
        inputs, rows = self.inputs_of(batch, SOURCE, context)
        source, _ = self.run(kept, inputs, rows, carried.method["model_state"], EVALUATION)
        found = {}
        for name, domain in (("source_domain", source), ("target_domain", target)):
            logits = self.discriminator.logits(params, domain.features)
            found[name] = domain_cross_entropy(logits, domain is source, domain.valid)
            found[f"{name}_accuracy"] = domain_accuracy(logits, domain is source, domain.valid)
        return found, after

    def encoder_losses(self, params: Any, batch: Batch, carried: Carried, context: Context) -> tuple[Losses, Carried]:
        """The target's rows with the label of the source."""
        target, carried = self.one(params, batch, TARGET, carried, context)
        logits = self.discriminator.logits(params, target.features)
        return {"taken_for_source": domain_cross_entropy(logits, True, target.valid)}, carried


def _encoder(params: Any) -> Any:
    """Everything of the model except its heads."""
    return {name: part for name, part in params.items() if name not in ("aux", "heads")}
