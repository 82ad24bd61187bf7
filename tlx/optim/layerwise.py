"""Learning rates that grow from the embeddings to the head, as multipliers by rule."""

import re
from collections.abc import Iterable, Sequence

from tlx.errors import TlxError, listed
from tlx.params.rules import Rules
from tlx.params.shorthand import EMBEDDINGS

# Embeddings have depth 0 and the i-th of L blocks depth i. Convention -> how far beyond L are what follows the blocks
# within the backbone (final norm, pooler), and the head, whose multiplier is 1.
CONVENTIONS = {
    "bert": (0, 0),  # Sun et al. 2019, eq. 2: the top block has the run's rate, each below it a factor less
    "timm": (0, 1),  # timm's param_groups_layer_decay with ViT's group_matcher: the final norm goes with the last block
    "beit": (1, 1),  # Bao et al. 2022, their code: the final norm goes with the head
    "electra": (2, 2),  # Clark et al. 2020, their code: the head is two steps above the last block
}


def layer_decay_rules(
    decay: float, convention: str, blocks: Sequence[str], paths: Iterable[str], floor: float = 0.0
) -> Rules:
    """`(selector, multiplier)` with multiplier = max(floor, decay^(depth of the head − depth)).

    Args:
      decay: the factor from one block to the one below it, above 0 and at most 1.
      convention: `bert`, `timm`, `beit` or `electra`.
      blocks: path prefixes of the backbone's blocks, in order, without the embeddings.
      paths: those of the tree.
      floor: the smallest multiplier (`min_scale` of timm's `param_groups_layer_decay`), at least 0 and at most 1.
    """
    if convention not in CONVENTIONS:
        raise TlxError(f"params.layer_decay_convention is {convention!r}; tlx has {listed(CONVENTIONS)}.")
    if not 0 < decay <= 1:
        raise TlxError(f"params.layer_decay is {decay}; it is above 0 and at most 1.")
    if not 0 <= floor <= 1:
        raise TlxError(f"params.layer_decay_floor is {floor}; it is at least 0 and at most 1.")
    end, head = CONVENTIONS[convention]
    top = len(blocks) + head
    depths = [*range(len(blocks) + 1), len(blocks) + end]
    return _present(blocks, [max(floor, decay ** (top - depth)) for depth in depths], paths)


def discriminative_rules(
    lowest: float, highest: float, rate: float, blocks: Sequence[str], paths: Iterable[str]
) -> Rules:
    """`(selector, multiplier)` for learning rates from `lowest` at the embeddings to `highest` at what follows the
    blocks, in equal ratios (Howard & Ruder 2018, section 3.2; fastai's `slice(lowest, highest)`).

    Args:
      lowest, highest: learning rates, above 0.
      rate: the run's, which is multiplied.
      blocks, paths: as of `layer_decay_rules`.
    """
    if not 0 < lowest <= highest:
        raise TlxError(f"params.discriminative is ({lowest}, {highest}); it is (lowest, highest) rate, both above 0.")
    groups = len(blocks) + 2
    rates = [lowest * (highest / lowest) ** (group / (groups - 1)) for group in range(groups)]
    return (*_present(blocks, [each / rate for each in rates], paths), (".*", highest / rate))


def _present(blocks: Sequence[str], multipliers: Sequence[float], paths: Iterable[str]) -> Rules:
    """Rules for embeddings, blocks and the backbone's end; those left out that this tree has not."""
    selectors = [EMBEDDINGS, *(f"{re.escape(block)}/.*" for block in blocks), "backbone/.*"]
    left, rules = set(paths), []
    for selector, multiplier in zip(selectors, multipliers, strict=True):
        taken = {path for path in left if re.fullmatch(selector, path)}
        left -= taken
        if taken:
            rules.append((selector, multiplier))
    return tuple(rules)
