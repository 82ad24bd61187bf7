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
# Weight decay does not apply to biases and norm parameters (the usual recipe for BERT and ViT).
DECAY: Rules = (("kind:bias", False), ("kind:norm", False), (".*", True))


@dataclasses.dataclass(frozen=True)
class Group:
    """The optimizer settings of a group of parameters.

    Attributes:
      multiplier: a factor for the run's learning rate.
      weight_decay: the weight decay. For most optimizers it is decoupled and multiplied by the learning rate; some add
        it to the gradient (see `optimizers.build`).
      learning_rate: the group's learning rate, used instead of the run's: a number or a schedule.
      optimizer: a key of `optimizers.OPTIMIZERS`; None for the run's optimizer.
      schedule: a factor for the learning rate by step; None for the run's schedule.
    """

    multiplier: float = 1.0
    weight_decay: float = 0.0
    learning_rate: float | optax.Schedule | None = None
    optimizer: str | None = None
    schedule: optax.Schedule | None = None

    def __post_init__(self) -> None:
        if self.learning_rate is not None and not isinstance(self.multiplier, jax.Array) and self.multiplier != 1:
            raise TlxError(
                "a group has either a multiplier for the run's learning rate or its own learning_rate, not both."
            )
        if self.optimizer is not None:
            optimizers.check_name("a group's optimizer", self.optimizer)


def as_group(where: str, group: Group | Mapping[str, Any]) -> Group:
    """Converts a mapping of fields to a `Group`; a `Group` is returned as it is.

    Args:
      where: the name of the mapping in messages.
      group: the group or its fields.

    Raises:
      TlxError: if a field does not exist.
    """
    if isinstance(group, Group):
        return group
    known = {field.name for field in dataclasses.fields(Group)}
    if unknown := set(group) - known:
        raise TlxError(f"{where} has no field {listed(sorted(unknown))}; it has {listed(sorted(known))}.")
    return Group(**group)


def assign_groups(
    params: Tree, rules: Rules, groups: Mapping[str, Any], kinds: KindTable | None = None
) -> dict[str, str]:
    """Returns the group of every path; paths that none of the user's rules matches are in `default`.

    Args:
      params: the parameters, or their shapes.
      rules: ordered rules `(selector, group)`.
      groups: the groups by name, besides `frozen`.
      kinds: the family's table of kinds.

    Raises:
      TlxError: if a rule applies to no path or names a group that does not exist.
    """
    assigned = assign(flatten(params), rules, shipped=SHIPPED, kinds=kinds, what="params.rules")
    known = {*groups, FROZEN}
    if unknown := sorted(set(assigned.values()) - known):
        raise TlxError(f"params.rules: no group {listed(unknown)} in params.groups, which has {listed(sorted(known))}.")
    return assigned


def decayed(paths: Mapping[str, Any], kinds: KindTable | None = None) -> dict[str, bool]:
    """Returns whether weight decay applies to each path (if its group has weight decay)."""
    return assign(paths, (), shipped=DECAY, kinds=kinds)


def multiplied(paths: Mapping[str, Any], *factors: Rules, kinds: KindTable | None = None) -> dict[str, float]:
    """Returns the learning rate multiplier of each path.

    Args:
      paths: the paths, as keys.
      factors: lists of rules `(selector, factor)`. The multiplier of a path is the product over the lists; a list whose
        rules do not match the path contributes the factor 1.
      kinds: the family's table of kinds.
    """
    tables = [assign(paths, rules, shipped=((".*", 1.0),), kinds=kinds, what="params.multipliers") for rules in factors]
    return {path: math.prod(table[path] for table in tables) for path in paths}


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
    """Creates an optimizer with a separate transformation for each group: an `optax.multi_transform`.

    It accepts the full tree, in which the group `frozen` is set to zero. Better, pass it the trainable part returned by
    `partition`, in which frozen leaves have neither gradients nor optimizer state.

    Learning rates follow the run's step if `update` is called with `step=…`; otherwise they follow the number of calls.
    With `update(…, step=…, rates={label: scalar})` the learning rates are those passed, and the compiled program
    contains no schedule (see `rate_tables`).

    Args:
      params: the parameters, or their shapes.
      rules: ordered rules `(selector, group)`; paths that no rule matches are in the group `default`.
      groups: the groups by name, each a `Group` or a mapping of its fields; the name `frozen` is reserved.
      learning_rate: the run's learning rate; not needed if every group has its own.
      schedule: a factor for every learning rate by step; None for 1.
      multipliers: a further factor for the learning rate by path (see `multiplied`); 1 for paths not in it.
      since: the step from which each path is trained; 0 for paths not in it. Paths of one group that start at different
        steps have separate optimizer states, each with its own step count.
      name: the run's optimizer, a key of `optimizers.OPTIMIZERS`.
      kinds: the family's table of kinds.
      assigned: the group of every path, used instead of `rules`.
      settings: settings of the optimizers, such as `b1` or `momentum`; None for each optimizer's default.

    Raises:
      TlxError: if a rule applies to no path or names a group that does not exist, if a group has no learning rate, if
        an optimizer does not exist, or if no optimizer in use has a setting.
    """
    optimizers.check_name("the optimizer", name)
    known = {key: as_group(f"groups[{key!r}]", group) for key, group in groups.items()}
    assigned = assign_groups(params, rules, known, kinds) if assigned is None else dict(assigned)
    optimizers.check_settings(settings, {name, *(group.optimizer or name for group in known.values())})
    decays = decayed(assigned, kinds)
    starts = _starts(assigned, since)

    def decay_mask(tree: Tree) -> Tree:
        return map_with_path(lambda path, _: decays[path], tree)

    def build(key: str, group: Group, first: int) -> optax.GradientTransformation:
        rate = _rate(key, group, learning_rate, schedule, first)
        transform = optimizers.build(group.optimizer or name, rate, (group.weight_decay, decay_mask), settings)
        transform = _with_run_step(transform, _label(key, first), first)
        return optax.chain(transform, _scale_by_path(multipliers)) if multipliers else transform

    transforms = {_label(key, first): build(key, known[key], first) for key, first in sorted(set(starts.values()))}
    transforms[FROZEN] = optax.set_to_zero()
    labels = {path: _label(*starts[path]) if path in starts else FROZEN for path in assigned}
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
    """Returns the learning rates of every group as a table indexed by the run's step.

    The tables are arguments of the training step, so runs that differ only in learning rates, schedules or numbers of
    steps share one compiled program. For this reason the length of a table is rounded up to a power of two, at least
    1,024, and the last learning rate fills the rest.

    Args:
      assigned: the group of every path (see `assign_groups`).
      groups: as in `make_optimizer`.
      steps: the number of steps of the run.
      learning_rate: as in `make_optimizer`.
      schedule: as in `make_optimizer`.
      since: as in `make_optimizer`.

    Returns:
      {label of the inner transformation: (table length,)}, in JAX's default floating dtype.
    """
    counts = np.minimum(np.arange(1 << max(10, (steps - 1).bit_length())), steps - 1).astype(np.int32)
    known = {key: as_group(f"groups[{key!r}]", group) for key, group in groups.items()}

    def table(key: str, first: int) -> jax.Array:
        rate = _rate(key, known[key], learning_rate, schedule, first)
        values = jax.vmap(rate)(jnp.asarray(counts - first)) if callable(rate) else rate
        return jnp.broadcast_to(jnp.asarray(values, float), counts.shape)

    return {_label(*pair): table(*pair) for pair in sorted(set(_starts(assigned, since).values()))}


def _starts(assigned: Mapping[str, str], since: Mapping[str, int] | None) -> dict[str, tuple[str, int]]:
    """The group of each trainable path, and the step from which it is trained."""
    return {path: (group, (since or {}).get(path, 0)) for path, group in assigned.items() if group != FROZEN}


def _label(group: str, first: int) -> str:
    """The label of an inner transformation: its group, and the step from which it is trained if that is not 0."""
    return f"{group}@{first}" if first else group


def _rate(
    name: str, group: Group, run: float | optax.Schedule | None, schedule: optax.Schedule | None, first: int
) -> Any:
    """A group's learning rate, as a function of the steps since the run's step `first`."""
    base = group.learning_rate if group.learning_rate is not None else run
    if base is None:
        raise TlxError(f"the group {name!r} has no learning_rate, and there is none for the run.")
    factor = group.schedule or schedule
    if factor is None and not callable(base):
        return group.multiplier * base

    def at(count: Any) -> Any:
        if jnp.issubdtype(jnp.result_type(count), jnp.floating):
            return count  # the learning rate itself, which `_with_run_step` stores in place of the count
        step = widest(count) + first
        rate = base(step) if callable(base) else base
        return group.multiplier * rate * (factor(step) if factor else 1.0)

    return at


def _with_run_step(
    transform: optax.GradientTransformation, label: str, first: int
) -> optax.GradientTransformationExtraArgs:
    """Makes schedules follow the run's step (`update(…, step=…)`), or use the learning rates in `rates`.

    optax evaluates a schedule at its own count of updates. That count is too high for an optimizer that updates twice
    in a step, and too low for one that is skipped. Only this count is replaced; Adam still counts its own updates.
    """
    transform = optax.with_extra_args_support(transform)

    def update(
        updates: Any, state: Any, params: Any = None, *, step: Any = None, rates: Any = None, **extra: Any
    ) -> Any:
        if step is None:
            return transform.update(updates, state, params, **extra)
        count = step - first
        state = _with_count(state, count if rates is None else rates[label])
        updates, state = transform.update(updates, state, params, **extra)
        return updates, _with_count(state, count + 1)

    return optax.GradientTransformationExtraArgs(transform.init, update)


def _with_count(state: Any, count: Any) -> Any:
    """Replaces the count of every schedule in an optimizer state."""
    is_schedule = lambda leaf: isinstance(leaf, optax.ScaleByScheduleState)  # noqa: E731
    return jax.tree.map(
        lambda leaf: leaf._replace(count=count) if is_schedule(leaf) else leaf, state, is_leaf=is_schedule
    )


def _scale_by_path(factors: Mapping[str, float]) -> optax.GradientTransformation:
    """Multiplies each update, weight decay included, by its path's factor, like a factor for the learning rate."""

    def scaled(path: str, update: Any) -> Any:
        factor = factors.get(path, 1.0)
        return update if factor == 1 else update * factor

    return optax.stateless(lambda updates, params: map_with_path(scaled, updates))
