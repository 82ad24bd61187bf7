"""The kinds of parameters, by path: `bias`, `norm`, `kernel`, `embedding`, `token`.

A parameter may have two kinds: the bias of a LayerNorm is `bias` and `norm`. Each model family has a table of kinds;
for other trees, kinds are derived from the names of parameters and modules.
"""

import re
from collections.abc import Sequence

KINDS = ("bias", "norm", "kernel", "embedding", "token")
KindTable = Sequence[tuple[str, tuple[str, ...]]]

# linen's default names, and names that are common in model code.
BY_NAME: KindTable = (
    (r"(.*/)?(\w*layer_?norm\w*|\w*batch_?norm\w*|norm\w*|ln_?\w*|bn_?\d*)/bias", ("bias", "norm")),
    (r"(.*/)?(\w*layer_?norm\w*|\w*batch_?norm\w*|norm\w*|ln_?\w*|bn_?\d*)/\w+", ("norm",)),
    (r"(.*/)?scale", ("norm",)),
    (r"(.*/)?bias", ("bias",)),
    (r"(.*/)?embedding", ("embedding",)),
    (r"(.*/)?kernel", ("kernel",)),
    (r"(.*/)?(cls|class|mask|distillation)_token", ("token",)),
)


def kinds_of(path: str, table: KindTable | None = None) -> frozenset[str]:
    """Returns the kinds of one parameter: those of the first row of `table`, then `BY_NAME`, whose regex matches.

    Args:
      path: the parameter's path; the regex must match all of it, case-insensitively.
      table: the family's table of kinds; None for `BY_NAME` alone.
    """
    for pattern, kinds in (*(table or ()), *BY_NAME):
        if re.fullmatch(pattern, path, re.IGNORECASE):
            return frozenset(kinds)
    return frozenset()
