"""What `config.lora` asks for: the model with its adapter, and the rules under which the base stays as it is."""

from collections.abc import Mapping
from typing import Any

from tlx.adapters.lora import Lora
from tlx.adapters.model import add_lora, with_loras
from tlx.models.model import Model
from tlx.params.kinds import KindTable
from tlx.params.partition import FROZEN
from tlx.params.paths import Tree, flatten
from tlx.params.rules import Rules, assign

BASE_FROZEN = ("backbone/.*", FROZEN)


def lora_of(config: Mapping[str, Any]) -> Lora | None:
    """The adapter of a run; None without one. config: the run's, which of an older run has no such part."""
    given = dict(config.get("lora") or {"rank": 0})
    if not given["rank"]:
        return None
    given["targets"] = tuple(tuple(rule) if isinstance(rule, list) else rule for rule in given["targets"])
    return Lora(**given)


def adapted(model: Model, config: Mapping[str, Any]) -> Model:
    """The module with the run's adapter, where it has one."""
    lora = lora_of(config)
    return model if lora is None else with_loras(model, (lora,))


def adapt(model: Model, params: Tree, config: Mapping[str, Any]) -> tuple[Model, Tree]:
    """The module and its parameters with the run's adapter, where it has one; drawn by the run's seed."""
    lora = lora_of(config)
    return (model, params) if lora is None else add_lora(model, params, lora, config["seed"])


def group_rules(config: Mapping[str, Any], rules: Rules, params: Tree, kinds: KindTable | None) -> Rules:
    """The rules given; with an adapter what they leave of the backbone is frozen, by a last rule."""
    if lora_of(config) is None:
        return rules
    decided = assign(flatten(params), rules, shipped=((".*", None),), kinds=kinds, what="params.rules")
    left = any(group is None and path.startswith("backbone/") for path, group in decided.items())
    return (*rules, BASE_FROZEN) if left else rules
