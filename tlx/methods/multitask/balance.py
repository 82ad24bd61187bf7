"""How a run balances its tasks: the pure functions of this package as objects with a state.

A `Balance` either weighs losses, which needs one backward pass, or weighs the tasks' gradients, one backward pass for
each task. Its state is a dict of arrays, part of `State.method_state`. In all functions losses, counts of examples and
weights are (tasks,) arrays, and a task without examples in the batch has weight 0 and changes nothing.
"""

import dataclasses

import jax
import jax.numpy as jnp

from tlx.errors import TlxError
from tlx.methods.multitask import gram, losses
from tlx.methods.multitask.gradients import pcgrad_orders

BalanceState = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Balance:
    """Equal weights: the sum of the losses is minimized. The base of all others.

    Attributes:
      by_gradient: whether weights are of the tasks' gradients.
      weighs_heads: whether a task's weight, where it is of gradients, also applies to the parameters of its head.
    """

    by_gradient = False
    weighs_heads = False

    def init(self, key: jax.Array, tasks: int) -> BalanceState:
        """The state before the first step."""
        del key, tasks
        return {}

    def of_losses(self, values: jax.Array, present: jax.Array, state: BalanceState) -> tuple[jax.Array, BalanceState]:
        """The weights of the losses; `present` is 1 for tasks with examples, else 0."""
        del values
        return present, state

    def of_gradients(
        self, inner: jax.Array, values: jax.Array, present: jax.Array, state: BalanceState
    ) -> tuple[jax.Array, BalanceState]:
        """The weights of the gradients, from their inner products (tasks, tasks)."""
        raise NotImplementedError

    def before_epoch(self, state: BalanceState, epoch: int) -> BalanceState:
        """The state before an epoch."""
        del epoch
        return state


@dataclasses.dataclass(frozen=True)
class RandomWeights(Balance):
    """RLW (`tlx.methods.multitask.rlw`): new random weights each step."""

    distribution: str = "normal"

    def init(self, key: jax.Array, tasks: int) -> BalanceState:
        return _random_state(key)

    def of_losses(self, values: jax.Array, present: jax.Array, state: BalanceState) -> tuple[jax.Array, BalanceState]:
        key, state = _next_key(state)
        return losses.rlw(key, len(values), distribution=self.distribution) * present, state


@dataclasses.dataclass(frozen=True)
class DynamicWeightAverage(Balance):
    """DWA (`tlx.methods.multitask.dwa`): weights by how fast the losses fell over the last two epochs."""

    temperature: float = 2.0

    def init(self, key: jax.Array, tasks: int) -> BalanceState:
        return {name: jnp.zeros(tasks) for name in ("total", "steps", "last", "before")}

    def of_losses(self, values: jax.Array, present: jax.Array, state: BalanceState) -> tuple[jax.Array, BalanceState]:
        known = (state["before"] > 0) & (state["last"] > 0)
        last, before = (jnp.where(known, state[name], 1) for name in ("last", "before"))
        weights = jnp.where(known.all(), losses.dwa(last, before, temperature=self.temperature), 1.0)
        seen = {"total": state["total"] + values * present, "steps": state["steps"] + present}
        return weights * present, {**state, **seen}

    def before_epoch(self, state: BalanceState, epoch: int) -> BalanceState:
        if epoch == 0:
            return state
        seen = state["steps"] > 0
        mean = state["total"] / jnp.maximum(state["steps"], 1)
        # arrays of their own: the step is given the state's memory, and no memory twice
        return {
            "total": jnp.zeros_like(mean), "steps": jnp.zeros_like(mean),
            "last": jnp.where(seen, mean, state["last"]), "before": jnp.where(seen, state["last"], state["before"]),
        }  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Famo(Balance):
    """FAMO (`tlx.methods.multitask.famo`).

    Attributes:
      rate: of the logits' step.
      decay: of the logits.
      after: where the losses after a step come from: `same_batch`, one more forward pass of the step's batch (the
        paper); or `next_batch`, the next step's losses before its update, without a pass of its own.
    """

    rate: float = 0.025
    decay: float = 0.001
    after: str = "same_batch"

    def __post_init__(self) -> None:
        if self.after not in ("same_batch", "next_batch"):
            raise TlxError(f"config.method.after is {self.after!r}; it is 'same_batch' or 'next_batch'.")

    def init(self, key: jax.Array, tasks: int) -> BalanceState:
        return {"logits": jnp.zeros(tasks), "losses": jnp.zeros(tasks), "present": jnp.zeros(tasks)}

    def of_losses(self, values: jax.Array, present: jax.Array, state: BalanceState) -> tuple[jax.Array, BalanceState]:
        if self.after == "next_batch":
            state = self.moved(values, present, state)
        weights = losses.famo(jnp.where(present > 0, values, 1), state["logits"]) * present
        weights = weights / jnp.where(weights.sum() > 0, weights.sum(), 1)
        return weights, {**state, "losses": values, "present": present}

    def moved(self, values: jax.Array, present: jax.Array, state: BalanceState) -> BalanceState:
        """The state after the logits' step, from the losses after the parameters' step."""
        both = state["present"] * present > 0
        before, after = jnp.where(both, state["losses"], 1), jnp.where(both, values, 1)
        logits = losses.famo_logits(state["logits"], before, after, rate=self.rate, decay=self.decay)
        return {**state, "logits": jnp.where(both.any(), logits, state["logits"])}


@dataclasses.dataclass(frozen=True)
class GradNorm(Balance):
    """GradNorm (`tlx.methods.multitask.gradnorm`). L(0) is a task's loss in the first batch that has examples of it."""

    by_gradient = True
    weighs_heads = True
    alpha: float = 1.5
    rate: float = 0.025
    variant: str = "paper"

    def init(self, key: jax.Array, tasks: int) -> BalanceState:
        start = jnp.zeros(tasks) if self.variant == "softmax" else jnp.ones(tasks)
        return {"parameters": start, "initial": jnp.zeros(tasks)}

    def of_gradients(
        self, inner: jax.Array, values: jax.Array, present: jax.Array, state: BalanceState
    ) -> tuple[jax.Array, BalanceState]:
        initial = jnp.where((state["initial"] == 0) & (present > 0), values, state["initial"])
        weights, parameters = losses.gradnorm(
            jnp.sqrt(jnp.diag(inner)), values, jnp.where(initial > 0, initial, 1), state["parameters"],
            alpha=self.alpha, rate=self.rate, variant=self.variant, present=present,
        )  # fmt: skip
        return weights * present, {"parameters": parameters, "initial": initial}


@dataclasses.dataclass(frozen=True)
class PcGrad(Balance):
    """PCGrad (`tlx.methods.multitask.pcgrad`)."""

    by_gradient = True
    reduction: str = "sum"
    meets_itself: bool = False

    def init(self, key: jax.Array, tasks: int) -> BalanceState:
        return _random_state(key)

    def of_gradients(
        self, inner: jax.Array, values: jax.Array, present: jax.Array, state: BalanceState
    ) -> tuple[jax.Array, BalanceState]:
        key, state = _next_key(state)
        orders = pcgrad_orders(key, len(values))
        return gram.pcgrad_weights(inner, present, orders, self.reduction, self.meets_itself), state


@dataclasses.dataclass(frozen=True)
class Mgda(Balance):
    """MGDA (`tlx.methods.multitask.mgda`).

    Attributes:
      upper_bound: whether gradients are those of the features that the heads read, in place of the shared parameters:
        MGDA-UB (Sener & Koltun 2018, section 3.3), with one backward pass through the backbone.
    """

    by_gradient = True
    upper_bound: bool = False

    def of_gradients(
        self, inner: jax.Array, values: jax.Array, present: jax.Array, state: BalanceState
    ) -> tuple[jax.Array, BalanceState]:
        return gram.mgda_weights(inner, present), state


@dataclasses.dataclass(frozen=True)
class CaGrad(Balance):
    """CAGrad (`tlx.methods.multitask.cagrad`)."""

    by_gradient = True
    c: float = 0.5
    rescale: str = "none"

    def of_gradients(
        self, inner: jax.Array, values: jax.Array, present: jax.Array, state: BalanceState
    ) -> tuple[jax.Array, BalanceState]:
        return gram.cagrad_weights(inner, present, self.c, self.rescale), state


@dataclasses.dataclass(frozen=True)
class ImtlG(Balance):
    """IMTL-G (`tlx.methods.multitask.imtl_g`)."""

    by_gradient = True

    def of_gradients(
        self, inner: jax.Array, values: jax.Array, present: jax.Array, state: BalanceState
    ) -> tuple[jax.Array, BalanceState]:
        return gram.imtl_g_weights(inner, present), state


@dataclasses.dataclass(frozen=True)
class NashMtl(Balance):
    """Nash-MTL (`tlx.methods.multitask.nash_mtl`). A `max_norm` of 0 means none."""

    by_gradient = True
    scale: str = "paper"
    max_norm: float = 0.0

    def of_gradients(
        self, inner: jax.Array, values: jax.Array, present: jax.Array, state: BalanceState
    ) -> tuple[jax.Array, BalanceState]:
        return gram.nash_mtl_weights(inner, present, self.scale, self.max_norm or None), state


@dataclasses.dataclass(frozen=True)
class AlignedMtl(Balance):
    """Aligned-MTL (`tlx.methods.multitask.aligned_mtl`)."""

    by_gradient = True
    scale: str = "min"

    def of_gradients(
        self, inner: jax.Array, values: jax.Array, present: jax.Array, state: BalanceState
    ) -> tuple[jax.Array, BalanceState]:
        return gram.aligned_mtl_weights(inner, present, scale=self.scale), state


def _random_state(key: jax.Array) -> BalanceState:
    return {"key": jax.random.key_data(key), "step": jnp.zeros((), jnp.int32)}


def _next_key(state: BalanceState) -> tuple[jax.Array, BalanceState]:
    key = jax.random.fold_in(jax.random.wrap_key_data(state["key"]), state["step"])
    return key, {**state, "step": state["step"] + 1}
