"""Fields of tokens for masked language modelling.

A set that is trained and measured on has `MASKABLE`, with the tokens themselves as labels; which of them are masked is
drawn on the device. A text whose mask tokens are to be filled in has `ASKED`.
"""

from collections.abc import Collection

import numpy as np

from tlx.errors import TlxError

MASKABLE = "maskable"  # 1 for tokens that may be masked
ASKED = "asked"  # 1 for mask tokens


def to_mask(ids: np.ndarray, special: Collection[int]) -> dict[str, np.ndarray]:
    """Returns the fields of tokens to train on.

    Args:
      ids: int32 (tokens,).
      special: ids that are never masked, such as those of [CLS], [SEP], [UNK] and [MASK].

    Returns:
      `label`, the tokens, and `label_mask` and `maskable`, int8, 1 for tokens that may be masked.
    """
    maskable = (~np.isin(ids, [*special])).astype(np.int8)
    return {"label": ids, "label_mask": maskable, MASKABLE: maskable}


def to_fill(ids: np.ndarray, offsets: np.ndarray, mask_id: int, mask: str) -> dict[str, np.ndarray]:
    """Returns the field of tokens to fill in.

    Args:
      ids: int32 (tokens,), the tokens of all texts.
      offsets: int64 (texts + 1,), where each text begins.
      mask_id: the id of the mask token.
      mask: how it is written.

    Raises:
      TlxError: a text has no mask token.
    """
    asked = ids == mask_id
    counts = np.concatenate([[0], np.cumsum(asked)])[offsets]
    if (without := np.flatnonzero(np.diff(counts) == 0)).size:
        raise TlxError(
            f"example {without[0]} holds no {mask} among the tokens that are read; a masked language model fills in "
            f"the words in whose place {mask} stands."
        )
    return {ASKED: asked.astype(np.int8)}
