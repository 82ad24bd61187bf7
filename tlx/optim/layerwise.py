"""Layer-wise learning rates, which increase from the embeddings to the head, as rules for multipliers."""

import re
from collections.abc import Iterable, Sequence

from tlx.errors import TlxError, listed
from tlx.params.rules import Rules
from tlx.params.shorthand import EMBEDDINGS

# The embeddings have depth 0 and the i-th of L blocks has depth i. {convention: (depth − L of the layers after the
# blocks in the backbone, such as a final norm or pooler; depth − L of the head, whose multiplier is 1)}
CONVENTIONS = {
    "bert": (0, 0),  # Sun et al. 2019, eq. 2: the top block has the run's learning rate
    "timm": (0, 1),  # timm's param_groups_layer_decay with ViT's group_matcher: the final norm is as the last block
    "beit": (1, 1),  # Bao et al. 2022, their code: the final norm is as the head
    "electra": (2, 2),  # Clark et al. 2020, their code: the head is two steps above the last block
}


def layer_decay_rules(
    decay: float, convention: str, blocks: Sequence[str], paths: Iterable[str], floor: float = 0.0
) -> Rules:
    """Returns rules `(selector, multiplier)` with multiplier = max(floor, decay^(depth of the head − depth)).

    Args:
      decay: the ratio of the learning rates of a block and the block above it, above 0 and at most 1.
      convention: how depth is counted: `bert`, `timm`, `beit` or `electra`.
      blocks: path prefixes of the backbone's blocks, in order, without the embeddings.
      paths: the paths of all parameters.
      floor: the smallest multiplier (`min_scale` of timm's `param_groups_layer_decay`), at least 0 and at most 1.

    Raises:
      TlxError: if the convention does not exist or a number is out of range.
    """
    if convention not in CONVENTIONS:
        raise TlxError(f"params.layer_decay_convention is {convention!r}; tlx has {listed(CONVENTIONS)}.")
    if not 0 < decay <= 1:
        raise TlxError(f"params.layer_decay is {decay}; it must be above 0 and at most 1.")
    if not 0 <= floor <= 1:
        raise TlxError(f"params.layer_decay_floor is {floor}; it must be at least 0 and at most 1.")
    end, head = CONVENTIONS[convention]
    top = len(blocks) + head
    depths = [*range(len(blocks) + 1), len(blocks) + end]
    return _present(blocks, [max(floor, decay ** (top - depth)) for depth in depths], paths)


def discriminative_rules(
    lowest: float, highest: float, rate: float, blocks: Sequence[str], paths: Iterable[str]
) -> Rules:
    """Returns rules `(selector, multiplier)` for discriminative learning rates.

    The learning rate rises in equal ratios from `lowest` at the embeddings to `highest` after the blocks (Howard &
    Ruder 2018, section 3.2; fastai's `slice(lowest, highest)`).

    Args:
      lowest: the learning rate of the embeddings, above 0.
      highest: the learning rate of the layers after the blocks, and of the heads, at least `lowest`.
      rate: the run's learning rate, to which the multipliers apply.
      blocks: path prefixes of the backbone's blocks, in order, without the embeddings.
      paths: the paths of all parameters.

    Raises:
      TlxError: if the learning rates are not above 0 and in order.
    """
    if not 0 < lowest <= highest:
        raise TlxError(
            f"params.discriminative is ({lowest}, {highest}); it must be (lowest, highest) learning rate, both above 0."
        )
    groups = len(blocks) + 2
    rates = [lowest * (highest / lowest) ** (group / (groups - 1)) for group in range(groups)]
    return (*_present(blocks, [each / rate for each in rates], paths), (".*", highest / rate))


def _present(blocks: Sequence[str], multipliers: Sequence[float], paths: Iterable[str]) -> Rules:
    """Rules for the embeddings, the blocks and the layers after them, without rules that match no parameter."""
    selectors = [EMBEDDINGS, *(f"{re.escape(block)}/.*" for block in blocks), "backbone/.*"]
    remaining, rules = set(paths), []
    for selector, multiplier in zip(selectors, multipliers, strict=True):
        matched = {path for path in remaining if re.fullmatch(selector, path)}
        remaining -= matched
        if matched:
            rules.append((selector, multiplier))
    return tuple(rules)
