"""The parts of a model in which nothing is trained; they run as in evaluation, without dropout."""

from tlx.adapters.lora import host
from tlx.models.forward import ModelState
from tlx.models.model import Model
from tlx.params.partition import FROZEN
from tlx.params.paths import flatten


def frozen_blocks(model: Model, groups: dict[str, str]) -> tuple[str, ...]:
    """Returns the path prefixes of the blocks that have no trainable parameter and no trainable adapter."""
    prefixes = [f"backbone/{path}" for path in model.backbone.config.block_paths]
    return tuple(prefix for prefix in prefixes if all(group == FROZEN for group in _within(prefix, groups)))


def frozen_parts(model: Model, groups: dict[str, str], model_state: ModelState) -> tuple[str, ...]:
    """Returns the path prefixes of the frozen blocks and of the frozen modules that have a state.

    The state of these modules, such as batch norm's statistics, is not updated in training. A module counts as frozen
    if none of its parameters is trainable. If it has no parameters, the smallest module around it with parameters
    decides.
    """
    frozen = list(frozen_blocks(model, groups))
    for state in model_state.values():
        for module in dict.fromkeys(path.rpartition("/")[0] for path in flatten(state)):
            ancestor, groups_within = module, _within(module, groups)
            while ancestor and not groups_within:
                ancestor = ancestor.rpartition("/")[0]
                groups_within = _within(ancestor, groups)
            if groups_within and all(group == FROZEN for group in groups_within):
                frozen.append(module)
    return tuple(frozen)


def _within(prefix: str, groups: dict[str, str]) -> list[str]:
    """The groups of the parameters below a path, including those of adapters on modules below it."""
    return [group for path, group in groups.items() if host(path).startswith(f"{prefix}/")]
