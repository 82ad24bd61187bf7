"""Between two trees of parameters, on the straight line (WiSE-FT: Wortsman et al. 2022, section 3)."""

from typing import Any

import jax

from tlx.errors import TlxError
from tlx.params.paths import Tree


def interpolate(pretrained: Tree, finetuned: Tree, share: float) -> Tree:
    """(1 − α) · θ_pretrained + α · θ_finetuned.

    Args:
      pretrained: None where a leaf has no pretrained value, such as a new head's; that leaf stays as fine-tuned.
      finetuned: the whole tree, in the same structure.
      share: α, 0 to 1. At 0 and at 1 every leaf is one of the two, to the bit.

    >>> interpolate({"a": 1.0, "head": None}, {"a": 3.0, "head": 5.0}, 0.25)
    {'a': 1.5, 'head': 5.0}
    """
    if not 0 <= share <= 1:
        raise TlxError(f"the share of the fine-tuned parameters is {share}; it is 0 to 1.")

    def between(start: Any, end: Any) -> Any:
        if start is None or share == 1:
            return end
        return start if share == 0 else (1 - share) * start + share * end

    return jax.tree.map(between, pretrained, finetuned, is_leaf=lambda leaf: leaf is None)
