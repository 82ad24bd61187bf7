"""Linear interpolation between two trees of parameters (WiSE-FT: Wortsman et al. 2022, section 3)."""

from typing import Any

import jax

from tlx.errors import TlxError
from tlx.params.paths import Tree


def interpolate(pretrained: Tree, finetuned: Tree, share: float) -> Tree:
    """Returns (1 − α) · θ_pretrained + α · θ_finetuned.

    Args:
      pretrained: the pretrained parameters. A leaf without a pretrained value, such as that of a new head, is None; the
        fine-tuned value is then returned.
      finetuned: the fine-tuned parameters, of the same structure.
      share: α, from 0 to 1. At 0 and at 1 the leaves of one tree are returned exactly.

    Raises:
      TlxError: if α is outside [0, 1].

    >>> interpolate({"a": 1.0, "head": None}, {"a": 3.0, "head": 5.0}, 0.25)
    {'a': 1.5, 'head': 5.0}
    """
    if not 0 <= share <= 1:
        raise TlxError(f"the share of the fine-tuned parameters is {share}; it must be 0 to 1.")

    def between(start: Any, end: Any) -> Any:
        if start is None or share == 1:
            return end
        return start if share == 0 else (1 - share) * start + share * end

    return jax.tree.map(between, pretrained, finetuned, is_leaf=lambda leaf: leaf is None)
