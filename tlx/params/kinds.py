"""What kind of parameter a path names: `bias`, `norm`, `kernel`, `embedding`, `token`.

A leaf may have two kinds: the bias of a LayerNorm is `bias` and `norm`. A family says in a table what its names
mean; any other tree goes by the names of leaf and module.
"""

import re
from collections.abc import Sequence

KINDS = ("bias", "norm", "kernel", "embedding", "token")
KindTable = Sequence[tuple[str, tuple[str, ...]]]

# Names as linen gives them by default, and as model code usually writes them.
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
    """The kinds of one parameter: the first row of `table`, then of `BY_NAME`, whose regex is the whole path."""
    for pattern, kinds in (*(table or ()), *BY_NAME):
        if re.fullmatch(pattern, path, re.IGNORECASE):
            return frozenset(kinds)
    return frozenset()
