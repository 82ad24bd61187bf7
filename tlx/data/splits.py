"""Deterministic splits, in which rows with equal keys are always in the same part."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tlx.errors import TlxError


def split_by_group(keys: Sequence[str], fractions: Mapping[str, float], seed: int) -> dict[str, np.ndarray]:
    """Splits rows into named parts; rows with equal keys are in the same part.

    The distinct keys are sorted by the SHA-256 of `seed:key`, and each part takes its fraction of them in that order.
    The split therefore depends neither on the order of the rows nor on a library's random numbers.

    Args:
      keys: one key per row, such as a text or the group that it belongs to.
      fractions: the fraction of the distinct keys for each part; the remaining keys are the part `train`.
      seed: the seed of the split.

    Returns:
      The row indices of each part, int64, ascending; `train` is the first part.

    Raises:
      TlxError: the fractions are out of range, or a part would be empty.
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


def subsample(count: int, most: int, seed: int) -> np.ndarray:
    """Samples `most` of `count` rows, those with the smallest SHA-256 of `seed:row`; all if there are not more.

    Returns:
      The row indices, int64, ascending.
    """
    order = sorted(range(count), key=lambda row: hashlib.sha256(f"{seed}:{row}".encode()).digest())
    return np.sort(np.array(order[:most], dtype=np.int64))


def subsample_per_class(labels: Sequence[Any], per_class: int, seed: int) -> np.ndarray:
    """Samples the same number of rows from each class: those with the smallest SHA-256 of `seed:row`.

    Args:
      labels: the label of each row.
      per_class: the number of rows per class.
      seed: the seed of the sample.

    Returns:
      The row indices, int64, ascending.

    Raises:
      TlxError: a class has fewer rows.
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
