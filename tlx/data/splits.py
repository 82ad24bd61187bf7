"""Deterministic splits that keep equal keys on one side."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tlx.errors import TlxError


def split_by_group(keys: Sequence[str], fractions: Mapping[str, float], seed: int) -> dict[str, np.ndarray]:
    """Cuts rows into named parts; rows with equal keys go together.

    The distinct keys are ordered by the SHA-256 of `seed:key` and dealt in that order, each part taking its fraction of
    the keys. So neither the order of the rows nor a library's random numbers matter.

    Args:
      keys: one per row, such as a text or the group it belongs to.
      fractions: of the distinct keys, by part; what they leave is the part `train`.
      seed: another seed, another cut.

    Returns:
      Row indices by part, ascending, `train` among them.
    """
    if sum(fractions.values()) >= 1 or min(fractions.values(), default=0) < 0:
        raise TlxError(f"split fractions are at least 0 and sum to less than 1, found {dict(fractions)}.")
    order = sorted(set(keys), key=lambda key: hashlib.sha256(f"{seed}:{key}".encode()).digest())
    part_of: dict[str, str] = {}
    start = 0
    for part, fraction in fractions.items():
        stop = start + round(fraction * len(order))
        part_of.update((key, part) for key in order[start:stop])
        if fraction and start == stop:
            raise TlxError(f"{len(order)} distinct rows are too few for a {part} split of {fraction:.0%}.")
        start = stop
    parts = np.array([part_of.get(key, "train") for key in keys])
    return {part: np.flatnonzero(parts == part) for part in ("train", *fractions)}


def subsample_per_class(labels: Sequence[Any], per_class: int, seed: int) -> np.ndarray:
    """int64, in order: `per_class` rows of each class, those first in the order of the SHA-256 of `seed:row`.

    Raises:
      TlxError: a class has fewer.
    """
    classes = np.array([str(label) for label in labels])
    chosen = []
    for name in sorted(set(classes)):
        rows = np.flatnonzero(classes == name)
        if len(rows) < per_class:
            raise TlxError(
                f"data.per_class is {per_class}, but the class {str(name)!r} has {len(rows)} training examples."
            )
        order = sorted(rows.tolist(), key=lambda row: hashlib.sha256(f"{seed}:{row}".encode()).digest())
        chosen.append(np.array(order[:per_class]))
    return np.sort(np.concatenate(chosen)).astype(np.int64)
