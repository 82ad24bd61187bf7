"""Several tasks with heads on one backbone, trained at once, as a method of the loop.

Tasks of one stream share its inputs, and so one forward pass; a label may be missing. Parameters below `heads/` and
`aux/` belong to one task, and so do adapters if each task has one; all others are shared. A task without examples in a
batch leaves its own parameters, with their moments, as they are.
"""

import dataclasses
import itertools
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from tlx.adapters.model import LoraModel
from tlx.errors import TlxError
from tlx.losses.rows import known_variant
from tlx.methods.api import Batch, BeforeEpoch, Carried, Context, Losses, Update
from tlx.methods.finetune import PREPARED, HeadLoss, LossSettings, head_loss
from tlx.methods.multitask.balance import Balance, Famo, Mgda
from tlx.methods.multitask.losses import UNCERTAINTY, uncertainty
from tlx.modalities.api import Fields, Prepare
from tlx.models.forward import forward
from tlx.models.heads import PER_TOKEN
from tlx.models.model import Model
from tlx.params.paths import map_with_path
from tlx.params.rules import Rules

OWN = ("heads/", "aux/")  # of one task
Values = dict[str, jax.Array]
USUAL_LOSS = LossSettings()
EQUAL = Balance()


@dataclasses.dataclass(frozen=True)
class TaskLabels:
    """Where a task's labels are, and its loss.

    Attributes:
      field: the field of the batch that has the labels. Where the batch also has `FIELD_mask`, of the labels' rows or
        tokens, 0 there means that a label is missing.
      stream: the stream of the batch.
      settings: of the loss.
      weight: a constant factor of the loss.
    """

    field: str
    stream: str = "train"
    settings: LossSettings = USUAL_LOSS
    weight: float = 1.0


class MultiTask:
    """Trains the heads of several tasks and what they share.

    Args:
      model: a backbone with a head for each task.
      tasks: by name, which is also that of the head.
      prepare: from a stream's rows to the model's inputs.
      balance: how losses or gradients are weighed.
    """

    before_epoch: BeforeEpoch | None = None
    packs = True

    def __init__(self, model: Model, tasks: Mapping[str, TaskLabels], prepare: Prepare, balance: Balance = EQUAL):
        self.model, self.tasks, self.prepare, self.balance = model, dict(tasks), prepare, balance
        heads = dict(model.heads_by_name)
        if missing := sorted(self.tasks.keys() ^ heads.keys()):
            raise TlxError(f"every task needs a head of its name, and every head a task; {missing[0]!r} has not both.")
        self.loss_of: dict[str, HeadLoss] = {
            name: head_loss(heads[name], task.settings) for name, task in self.tasks.items()
        }
        self.reads_valid: bool = getattr(model.backbone, "reads_valid", False)
        self.streams = tuple(dict.fromkeys(task.stream for task in self.tasks.values()))
        by_task = isinstance(model, LoraModel) and model.by_row
        self.own = (*OWN, "adapters/") if by_task else OWN
        places = [*(f"{place}(.*/)?" for place in OWN), *(["adapters/"] if by_task else [])]
        own: dict[str, Rules] = {
            f"task_{name}": tuple((f"{place}{re.escape(name)}/.*", True) for place in places) for name in self.tasks
        }
        self.players: Mapping[str, Rules] = {**own, "shared": ((".*", True),)}
        self.updates = self._updates()
        if type(balance).before_epoch is not Balance.before_epoch:
            self.before_epoch = lambda state, params, epoch, predict: balance.before_epoch(state, epoch)

    def _updates(self) -> tuple[Update, ...]:
        needs = {f"task_{name}": (name,) for name in self.tasks}
        if isinstance(self.balance, Mgda) and self.balance.upper_bound:
            return (
                Update(
                    self.losses, tuple(self.players), needs=needs, weigh_features=self.weigh_features, own=self.own
                ),
            )  # fmt: skip
        update = Update(
            self.losses, tuple(self.players), needs=needs,
            combine=self.combine if self.balance.by_gradient else None,
            measure=self.cosines if self.balance.by_gradient else None,
            weigh=None if self.balance.by_gradient else self.weigh,
        )  # fmt: skip
        if not isinstance(self.balance, Famo) or self.balance.after == "next_batch":
            return (update,)
        after = Update(self.losses_after, (), name="after", weigh=self.weigh_after)
        return dataclasses.replace(update, name="tasks"), after

    def init(self, key: jax.Array, shapes: Any) -> tuple[Any, Any]:
        """Returns no additional parameters, and the state of the balance."""
        del shapes
        return {}, self.balance.init(key, len(self.tasks))

    def losses(self, params: Any, batch: Batch, carried: Carried, context: Context) -> tuple[Losses, Carried]:
        """The loss of each task, over the rows or tokens of its stream that have its label."""
        losses: Losses = {}
        for index, stream in enumerate(self.streams):
            key = jax.random.fold_in(context.key, index) if index else context.key
            inputs, rows = self.prepare(batch[stream], jax.random.fold_in(key, PREPARED))
            given = {**inputs, "valid": rows["valid"]} if self.reads_valid else inputs
            context_here = dataclasses.replace(context, key=key)
            output, model_state = forward(self.model, params, carried.model, given, context_here)
            carried = dataclasses.replace(carried, model=model_state)
            for name, task in self.tasks.items():
                if task.stream == stream:
                    weight = self.weight(name, rows)
                    losses[name] = self.loss_of[name](output.logits[name], rows[task.field], weight)
        losses = {name: (self.tasks[name].weight * losses[name][0], losses[name][1]) for name in self.tasks}
        return self.changed(losses, params), carried

    def weight(self, name: str, rows: Fields) -> jax.Array:
        """Which rows or tokens have a label of a task: 1, else 0, of the shape of the labels without outputs."""
        mask, valid = rows.get(f"{self.tasks[name].field}_mask", rows["valid"]), rows["valid"]
        kind = dict(self.model.heads_by_name)[name].kind
        if kind in PER_TOKEN and "segment_ids" in rows:  # `valid` is of texts, and no token of padding has a label
            windows = rows["segment_ids"] if kind == "question_answering" else 1  # those that share a row
            return mask.astype(jnp.float32) * windows
        valid = valid.reshape(valid.shape + (1,) * (mask.ndim - valid.ndim))
        return mask.astype(jnp.float32) * valid.astype(jnp.float32)

    def changed(self, losses: Losses, params: Any) -> Losses:
        """The losses whose gradients are taken."""
        del params
        return losses

    def weigh(self, means: Values, counts: Values, state: Any) -> tuple[Values, Any]:
        """The balance's weights of the losses."""
        weights, state = self.balance.of_losses(self.array(means), self.present(counts), state)
        return dict(zip(self.tasks, weights, strict=True)), state

    def weigh_features(
        self, inner: Mapping[str, Values], means: Values, counts: Values, state: Any
    ) -> tuple[Values, Any]:
        """The balance's weights, from the inner products of the tasks' gradients of features."""
        products = jnp.stack([self.array(inner[name]) for name in self.tasks])
        weights, state = self.balance.of_gradients(products, self.array(means), self.present(counts), state)
        return dict(zip(self.tasks, weights, strict=True)), state

    def combine(self, gradients: Mapping[str, Any], means: Values, counts: Values, state: Any) -> tuple[Any, Any]:
        """The weighted sum of the tasks' gradients of shared parameters, and each head's own gradient."""
        trees, inner = [gradients[name] for name in self.tasks], self.inner(gradients)
        weights, state = self.balance.of_gradients(inner, self.array(means), self.present(counts), state)

        def weighted(path: str, *leaves: jax.Array) -> jax.Array:
            if path.startswith(self.own) and not self.balance.weighs_heads:
                return sum(leaves[1:], leaves[0])  # all but its task's are 0
            parts = [weight.astype(leaf.dtype) * leaf for weight, leaf in zip(weights, leaves, strict=True)]
            return sum(parts[1:], parts[0])

        return map_with_path(weighted, *trees), state

    def inner(self, gradients: Mapping[str, Any]) -> jax.Array:
        """(tasks, tasks), the inner products of the tasks' gradients of shared parameters."""
        trees = [gradients[name] for name in self.tasks]
        inner, shared = jnp.zeros((len(trees), len(trees))), False

        def add(path: str, *leaves: jax.Array) -> None:
            nonlocal inner, shared
            if not path.startswith(self.own):
                shared = True
                rows = jnp.stack([jnp.ravel(leaf) for leaf in leaves])
                rows = rows.astype(jnp.promote_types(rows.dtype, jnp.float32))
                inner = inner + jnp.matmul(rows, rows.T, precision=jax.lax.Precision.HIGHEST)

        map_with_path(add, *trees)
        if not shared:
            raise TlxError(
                "config.method weighs the tasks' gradients of the trained parameters that they share, and there are "
                "none; train some (config.params), or take a method of losses, such as 'equal'."
            )
        return inner

    def cosines(self, gradients: Mapping[str, Any], counts: Values) -> Values:
        """The cosine of the angle between two tasks' gradients, by `cosine/ONE/OTHER`; NaN if one has no examples.

        The compiler computes the inner products once for this and `combine`.
        """
        inner, present = self.inner(gradients), self.present(counts) > 0
        norms = jnp.sqrt(jnp.diag(inner))
        product = norms[:, None] * norms
        known = present[:, None] & present & (product > 0)
        cosines = jnp.where(known, inner / jnp.where(product > 0, product, 1), jnp.nan)
        pairs = itertools.combinations(enumerate(self.tasks), 2)
        return {f"cosine/{one}/{other}": cosines[i, j] for (i, one), (j, other) in pairs}

    def losses_after(self, params: Any, batch: Batch, carried: Carried, context: Context) -> tuple[Losses, Carried]:
        """The losses at the parameters after the step, with which FAMO's logits move; the model keeps its state."""
        losses, _ = self.losses(params, batch, carried, context)
        return losses, carried

    def weigh_after(self, means: Values, counts: Values, state: Any) -> tuple[Values, Any]:
        """Moves FAMO's logits; no parameter is trained by this update."""
        assert isinstance(self.balance, Famo)
        state = self.balance.moved(self.array(means), self.present(counts), state)
        return {name: jnp.zeros(()) for name in self.tasks}, state

    def array(self, values: Values) -> jax.Array:
        """(tasks,), in the order of the tasks."""
        return jnp.stack([values[name] for name in self.tasks])

    def present(self, counts: Values) -> jax.Array:
        """(tasks,), 1 for tasks with examples in the batch, else 0."""
        return (self.array(counts) > 0).astype(float)


class UncertaintyWeighted(MultiTask):
    """Uncertainty weighting (`tlx.methods.multitask.uncertainty`): a trained log variance a task, at `aux/uncertainty`.

    The losses are logged without weights.

    Args:
      arguments: those of `MultiTask`, without a balance.
      variant: a variant of `uncertainty`.
      initial: the log variances before the first step. LibMTL's are −0.5.
    """

    def __init__(self, *arguments: Any, variant: str = "paper", initial: float = 0.0):
        super().__init__(*arguments)
        known_variant("uncertainty", variant, UNCERTAINTY)
        heads = dict(self.model.heads_by_name)
        self.variant, self.initial = variant, initial
        self.squares = {name: heads[name].kind == "regression" for name in self.tasks}

    def init(self, key: jax.Array, shapes: Any) -> tuple[Any, Any]:
        """Returns the log variances."""
        del key, shapes
        return {"uncertainty": {name: {"log_variance": jnp.full((), self.initial)} for name in self.tasks}}, {}

    def changed(self, losses: Losses, params: Any) -> Losses:
        """Losses with the gradients of the uncertainty's, and their own values."""
        found = {}
        for name, (total, count) in losses.items():
            variance = params["aux"]["uncertainty"][name]["log_variance"]
            per_example = total / jnp.maximum(count, 1e-8)
            term = uncertainty(per_example, variance, not self.squares[name], variant=self.variant)
            weighted = jax.lax.stop_gradient(count) * term
            found[name] = (weighted + jax.lax.stop_gradient(total - weighted), count)
        return found
