"""Reads `config.params`: the group of each parameter, the groups' settings and learning rate multipliers."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import optax
from ml_collections import ConfigDict

from tlx.errors import TlxError
from tlx.models.model import Model
from tlx.optim.groups import Group, as_group, assign_groups, multiplied
from tlx.optim.layerwise import discriminative_rules, layer_decay_rules
from tlx.params.partition import FROZEN
from tlx.params.paths import flatten
from tlx.params.rules import Rules
from tlx.params.shorthand import freeze_rules, train_rules
from tlx.recipes.model import group_rules

# Layers that begin with random weights: heads, and the layers of a method, such as discriminators.
NEW_LAYERS = r"heads/.*|aux/.*/(kernel|bias)"
Schedules = Callable[[str], optax.Schedule]


@dataclasses.dataclass(frozen=True)
class GroupAssignment:
    """The groups of all parameters.

    Attributes:
      rules: the rules of the config, followed by those of its shorthands.
      groups: the settings of each group by name.
      assigned: the group of each path.
      multipliers: for each path, a factor of the learning rate in addition to its group's.
    """

    rules: Rules
    groups: dict[str, Group]
    assigned: dict[str, str]
    multipliers: dict[str, float]

    @property
    def frozen(self) -> list[str]:
        """The paths that are not trained."""
        return [path for path, group in self.assigned.items() if group == FROZEN]

    def factor(self, path: str, rate: float) -> float:
        """Returns the peak learning rate of a path as a multiple of `rate`, the run's; 0 if the path is frozen."""
        group = self.groups.get(self.assigned[path])
        if group is None:
            return 0.0
        group_rate: Any = group.learning_rate
        return self.multipliers[path] * (group.multiplier if group_rate is None else group_rate / rate)


def blocks_of(model: Model) -> tuple[str, ...]:
    """Returns the path prefixes of the backbone's blocks, without the embeddings."""
    return tuple(f"backbone/{path}" for path in model.backbone.config.block_paths[1:])


def parameter_groups(config: ConfigDict, model: Model, params: Any, schedules: Schedules) -> GroupAssignment:
    """Assigns a group and a multiplier to each parameter, from `config.params`.

    Args:
      config: the run's config.
      model: the model.
      params: its parameters, as arrays or as their shapes.
      schedules: a function from a schedule's name to the factor of the learning rate by step.

    Raises:
      TlxError: if a rule matches no parameter or names no group, if fields contradict each other, or if every
        parameter is frozen.
    """
    c, kinds, blocks, paths = config.params, model.backbone.kinds, blocks_of(model), list(flatten(params))
    if c.freeze and c.trainable:
        raise TlxError(
            f"config.params.freeze is {c.freeze!r} and config.params.trainable {c.trainable!r}; set one of the two."
        )
    rules: list[tuple[str, Any]] = [*c.rules]
    if c.freeze:
        rules += freeze_rules(c.freeze, blocks, paths)
    if c.trainable:
        rules += train_rules(c.trainable, blocks, paths, kinds=kinds)
    groups = {name: _group(name, group, schedules) for name, group in c.groups.items()}
    rules = [*group_rules(config, rules, params, kinds)]
    assigned = assign_groups(params, rules, groups, kinds)
    if all(group == FROZEN for group in assigned.values()):
        raise TlxError("config.params freezes every parameter, so nothing would be trained.")
    return GroupAssignment(tuple(rules), groups, assigned, _multipliers(config, model, blocks, paths))


def _group(name: str, config: ConfigDict, schedules: Schedules) -> Group:
    fields = dict(config)
    if fields.get("schedule") is not None:
        fields["schedule"] = schedules(fields["schedule"])
    return as_group(f"config.params.groups.{name}", fields)


def _multipliers(config: ConfigDict, model: Model, blocks: Sequence[str], paths: Sequence[str]) -> dict[str, float]:
    c = config.params
    layerwise: Rules = ()
    if c.layer_decay_floor and c.layer_decay == 1:
        raise TlxError(
            f"config.params.layer_decay_floor is {c.layer_decay_floor}, and config.params.layer_decay is 1, so that no "
            "rate is smaller by layer; set config.params.layer_decay below 1, or leave the floor at 0."
        )
    if c.discriminative:
        if c.layer_decay != 1:
            raise TlxError(
                "config.params.discriminative and config.params.layer_decay both set rates by layer; set one of them."
            )
        if len(c.discriminative) != 2:
            raise TlxError(f"config.params.discriminative is {tuple(c.discriminative)}; it is (lowest, highest) rate.")
        layerwise = discriminative_rules(
            c.discriminative[0], c.discriminative[1], config.optimizer.learning_rate, blocks, paths
        )
    elif c.layer_decay != 1:
        convention = c.layer_decay_convention or model.backbone.config.layer_decay_convention
        layerwise = layer_decay_rules(c.layer_decay, convention, blocks, paths, c.layer_decay_floor)
    head: Rules = ((NEW_LAYERS, c.head_multiplier),) if c.head_multiplier != 1 else ()
    return multiplied(dict.fromkeys(paths), tuple(c.multipliers), layerwise, head, kinds=model.backbone.kinds)
