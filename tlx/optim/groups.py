"""Groups of parameters and their optimizers: one `optax.multi_transform` over rules on paths."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tlx.errors import TlxError, listed
from tlx.optim import optimizers
from tlx.optim.schedules import widest
from tlx.params.kinds import KindTable
from tlx.params.partition import FROZEN
from tlx.params.paths import Tree, flatten, map_with_path
from tlx.params.rules import Rules, assign

SHIPPED: Rules = ((".*", "default"),)
# Biases and the parameters of norms are not decayed (the usual recipe of BERT and ViT).
DECAY: Rules = (("kind:bias", False), ("kind:norm", False), (".*", True))


@dataclasses.dataclass(frozen=True)
class Group:
    """How a group learns.

    multiplier: of the run's learning rate. learning_rate: of its own in place of that, a number or a schedule.
    weight_decay: decoupled and times the rate, of some optimizers in the gradient (see `optimizers.build`).
    optimizer: any of `optimizers.OPTIMIZERS`; None: the run's.
    schedule: factor of the rate by step; None: the run's.
    """

    multiplier: float = 1.0
    weight_decay: float = 0.0
    learning_rate: float | optax.Schedule | None = None
    optimizer: str | None = None
    schedule: optax.Schedule | None = None

    def __post_init__(self) -> None:
        if self.learning_rate is not None and not isinstance(self.multiplier, jax.Array) and self.multiplier != 1:
            raise TlxError(
                "a group has a multiplier of the run's learning rate or a learning_rate of its own, not both."
            )
        if self.optimizer is not None:
            optimizers.known("a group's optimizer", self.optimizer)


def as_group(where: str, given: Group | Mapping[str, Any]) -> Group:
    """A group from its fields."""
    if isinstance(given, Group):
        return given
    known = {field.name for field in dataclasses.fields(Group)}
    if unknown := set(given) - known:
        raise TlxError(f"{where} has no field {listed(sorted(unknown))}; it has {listed(sorted(known))}.")
    return Group(**given)


def assign_groups(
    params: Tree, rules: Rules, groups: Mapping[str, Any], kinds: KindTable | None = None
) -> dict[str, str]:
    """The group of every path; after the user's rules everything goes to `default`."""
    assigned = assign(flatten(params), rules, shipped=SHIPPED, kinds=kinds, what="params.rules")
    known = {*groups, FROZEN}
    if unknown := sorted(set(assigned.values()) - known):
        raise TlxError(f"params.rules: no group {listed(unknown)} in params.groups, which has {listed(sorted(known))}.")
    return assigned


def decayed(paths: Mapping[str, Any], kinds: KindTable | None = None) -> dict[str, bool]:
    """Whether a path is decayed, where its group decays at all."""
    return assign(paths, (), shipped=DECAY, kinds=kinds)


def multiplied(paths: Mapping[str, Any], *factors: Rules, kinds: KindTable | None = None) -> dict[str, float]:
    """What each path's learning rate is multiplied by: the product over lists of rules `(selector, factor)`, each 1
    where none of its rules matches."""
    every = [assign(paths, rules, shipped=((".*", 1.0),), kinds=kinds, what="params.multipliers") for rules in factors]
    return {path: math.prod(found[path] for found in every) for path in paths}


def make_optimizer(
    params: Tree,
    rules: Rules,
    groups: Mapping[str, Group | Mapping[str, Any]],
    *,
    learning_rate: float | optax.Schedule | None = None,
    schedule: optax.Schedule | None = None,
    multipliers: Mapping[str, float] | None = None,
    since: Mapping[str, int] | None = None,
    name: str = "adamw",
    kinds: KindTable | None = None,
    assigned: Mapping[str, str] | None = None,
    **settings: optimizers.Setting,
) -> optax.GradientTransformation:
    """An optimizer by group, as a plain `optax.multi_transform` whose group `frozen` is `set_to_zero`.

    It works on the full tree and, better, on the trainable part that `partition` gives, where the frozen leaves have
    neither gradient nor moments.

    Args:
      params: the tree, or its shapes.
      rules: ordered `(selector, group)`; what none matches goes to `default`.
      groups: by name, each a `Group` or its fields; `frozen` is reserved.
      learning_rate: the run's, which each group multiplies; not needed where every group has its own.
      schedule: factor of every rate by step; None: 1.
      multipliers: factor of the rate by path, on top of the groups' (see `multiplied`); 1 if not named.
      since: the step at which each path began to learn, 0 if not named. Paths of a group that began at different steps
        have an optimizer state, and so a count of steps, of their own. Schedules read the run's step, `update(…,
        step=…)`, or without it how often `update` was called; with `update(…, step=…, rates=…)` the rates are those
        given, {label: scalar}, and no schedule is part of the compiled program (see `rate_tables`).
      name: `adamw` (Loshchilov & Hutter 2019), or another of `optimizers.OPTIMIZERS`.
      kinds: the family's table of kinds.
      assigned: the group of every path, in place of `rules`.
      settings: of the optimizers, such as `b1` or `momentum`; None: each optimizer's default.

    Raises:
      TlxError: a rule that decides nothing or names no group, a group without a learning rate, an optimizer unknown, a
        setting that none of the optimizers takes.
    """
    optimizers.known("the optimizer", name)
    known = {key: as_group(f"groups[{key!r}]", group) for key, group in groups.items()}
    assigned = assign_groups(params, rules, known, kinds) if assigned is None else dict(assigned)
    optimizers.check_settings(settings, {name, *(group.optimizer or name for group in known.values())})
    decays = decayed(assigned, kinds)
    begun = _begun(assigned, since)

    def decay_mask(tree: Tree) -> Tree:
        return map_with_path(lambda path, _: decays[path], tree)

    def of(key: str, group: Group, first: int) -> optax.GradientTransformation:
        rate = _rate(key, group, learning_rate, schedule, first)
        steps = optimizers.build(group.optimizer or name, rate, (group.weight_decay, decay_mask), settings)
        steps = _by_the_runs_step(steps, _label(key, first), first)
        return optax.chain(steps, _scale_by_path(multipliers)) if multipliers else steps

    transforms = {_label(*pair): of(pair[0], known[pair[0]], pair[1]) for pair in sorted(set(begun.values()))}
    transforms[FROZEN] = optax.set_to_zero()
    labels = {path: _label(*begun[path]) if path in begun else FROZEN for path in assigned}
    return optax.multi_transform(transforms, lambda tree: map_with_path(lambda path, _: labels[path], tree))


def rate_tables(
    assigned: Mapping[str, str],
    groups: Mapping[str, Group | Mapping[str, Any]],
    steps: int,
    *,
    learning_rate: float | optax.Schedule | None = None,
    schedule: optax.Schedule | None = None,
    since: Mapping[str, int] | None = None,
) -> dict[str, jax.Array]:
    """The learning rate of every group by the run's step, in JAX's default floating dtype.

    The tables are arguments of the training step, so that runs that differ in a rate, a schedule or their number of
    steps share one compiled program: a table's length is the next power of two, at least 1,024, beyond the run filled
    with its last rate.

    Args:
      assigned: the group of every path (see `assign_groups`).
      groups, learning_rate, schedule, since: as of `make_optimizer`.
      steps: of the run.
    """
    counts = np.minimum(np.arange(1 << max(10, (steps - 1).bit_length())), steps - 1).astype(np.int32)
    known = {key: as_group(f"groups[{key!r}]", group) for key, group in groups.items()}

    def table(key: str, first: int) -> jax.Array:
        rate = _rate(key, known[key], learning_rate, schedule, first)
        values = jax.vmap(rate)(jnp.asarray(counts - first)) if callable(rate) else rate
        return jnp.broadcast_to(jnp.asarray(values, float), counts.shape)

    return {_label(*pair): table(*pair) for pair in sorted(set(_begun(assigned, since).values()))}


def _begun(assigned: Mapping[str, str], since: Mapping[str, int] | None) -> dict[str, tuple[str, int]]:
    """The group of each path that learns, and the step since which it does."""
    return {path: (group, (since or {}).get(path, 0)) for path, group in assigned.items() if group != FROZEN}


def _label(group: str, first: int) -> str:
    """Of an inner transform: its group, and the step from which its paths learn, if that is not the first."""
    return f"{group}@{first}" if first else group


def _rate(
    name: str, group: Group, run: float | optax.Schedule | None, schedule: optax.Schedule | None, first: int
) -> Any:
    """A group's learning rate, by a count of steps that was 0 at the run's step `first`."""
    base = group.learning_rate if group.learning_rate is not None else run
    if base is None:
        raise TlxError(f"the group {name!r} has no learning_rate, and none is given for all.")
    factor = group.schedule or schedule
    if factor is None and not callable(base):
        return group.multiplier * base

    def at(count: Any) -> Any:
        if jnp.issubdtype(jnp.result_type(count), jnp.floating):
            return count  # the rate itself, put in the count's place by `_by_the_runs_step`
        step = widest(count) + first
        rate = base(step) if callable(base) else base
        return group.multiplier * rate * (factor(step) if factor else 1.0)

    return at


def _by_the_runs_step(
    steps: optax.GradientTransformation, label: str, first: int
) -> optax.GradientTransformationExtraArgs:
    """Lets schedules read the run's step where `update` is given one (`step=`), or takes the rate itself (`rates=`).

    optax evaluates a schedule at a count of its own, which an optimizer that is asked twice in a step exhausts early,
    and one that is skipped lets lag. Only that count is set; Adam's goes on counting its own updates.
    """
    steps = optax.with_extra_args_support(steps)

    def update(
        updates: Any, state: Any, params: Any = None, *, step: Any = None, rates: Any = None, **extra: Any
    ) -> Any:
        if step is None:
            return steps.update(updates, state, params, **extra)
        count = step - first
        state = _with_count(state, count if rates is None else rates[label])
        updates, state = steps.update(updates, state, params, **extra)
        return updates, _with_count(state, count + 1)

    return optax.GradientTransformationExtraArgs(steps.init, update)


def _with_count(state: Any, count: Any) -> Any:
    """An optimizer's state in which every schedule's count is this one."""
    is_schedule = lambda leaf: isinstance(leaf, optax.ScaleByScheduleState)  # noqa: E731
    return jax.tree.map(
        lambda leaf: leaf._replace(count=count) if is_schedule(leaf) else leaf, state, is_leaf=is_schedule
    )


def _scale_by_path(factors: Mapping[str, float]) -> optax.GradientTransformation:
    """Each update times its path's factor: as if the learning rate had been multiplied, decay included."""

    def scaled(path: str, update: Any) -> Any:
        factor = factors.get(path, 1.0)
        return update if factor == 1 else update * factor

    return optax.stateless(lambda updates, params: map_with_path(scaled, updates))
