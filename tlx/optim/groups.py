"""Groups of parameters and their optimizer: one `optax.multi_transform` over rules on paths."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import optax

from tlx.errors import TlxError, listed
from tlx.params.kinds import KindTable
from tlx.params.partition import FROZEN
from tlx.params.paths import Tree, flatten, map_with_path
from tlx.params.rules import Rules, assign

OPTIMIZERS = ("adamw", "sgd")
SHIPPED: Rules = ((".*", "default"),)
# Biases and the parameters of norms are not decayed (the usual recipe of BERT and ViT).
DECAY: Rules = (("kind:bias", False), ("kind:norm", False), (".*", True))


@dataclasses.dataclass(frozen=True)
class Group:
    """multiplier: of the run's learning rate. weight_decay: of AdamW decoupled (Loshchilov & Hutter 2019), times the
    rate."""

    multiplier: float = 1.0
    weight_decay: float = 0.0


def assign_groups(
    params: Tree, rules: Rules, groups: Mapping[str, Group], kinds: KindTable | None = None
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


def make_optimizer(
    params: Tree,
    rules: Rules,
    groups: Mapping[str, Group],
    *,
    learning_rate: float | optax.Schedule,
    name: str = "adamw",
    momentum: float = 0.9,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    kinds: KindTable | None = None,
) -> optax.GradientTransformation:
    """An optimizer by group, as a plain `optax.multi_transform` whose group `frozen` is `set_to_zero`.

    It works on the full tree and, better, on the trainable part that `partition` gives, where the frozen leaves have
    neither gradient nor moments.

    Args:
      params: the tree, or its shapes.
      rules: ordered `(selector, group)`; what none matches goes to `default`.
      groups: by name; `frozen` is reserved.
      learning_rate: the run's, which each group multiplies.
      name: `adamw` (Loshchilov & Hutter 2019), or `sgd`, whose weight decay is added to the gradient, as in torch.
      momentum: of sgd (heavy ball); 0 for none.
      b1, b2, eps: of Adam (Kingma & Ba 2015, algorithm 1).
      kinds: the family's table of kinds.
    """
    assigned = assign_groups(params, rules, groups, kinds)
    decays = decayed(assigned, kinds)

    def rate(multiplier: float) -> Any:
        if callable(learning_rate):
            return lambda step: multiplier * learning_rate(step)
        return multiplier * learning_rate

    def decay_mask(tree: Tree) -> Tree:
        return map_with_path(lambda path, _: decays[path], tree)

    def of(group: Group) -> optax.GradientTransformation:
        if name == "sgd":
            decay = optax.add_decayed_weights(group.weight_decay, decay_mask)
            return optax.chain(decay, optax.sgd(rate(group.multiplier), momentum or None))
        return optax.adamw(rate(group.multiplier), b1, b2, eps, weight_decay=group.weight_decay, mask=decay_mask)

    if name not in OPTIMIZERS:
        raise TlxError(f"the optimizer is {name!r}; tlx has {listed(OPTIMIZERS)}.")
    transforms = {key: of(group) for key, group in groups.items()}
    transforms[FROZEN] = optax.set_to_zero()
    return optax.multi_transform(transforms, lambda tree: map_with_path(lambda path, _: assigned[path], tree))
