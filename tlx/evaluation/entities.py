"""Entities in tagged sentences, by the definition that seqeval's default mode uses.

Tags are `O` or a prefix and a type, `B-person`. A run of tags of one type is an entity; B and S begin one, E and S end
one, and an I without anything before it to go on from begins one too (conlleval's rule, which IOB1, IOB2 and IOBES
files all obey).
"""

import itertools
from collections.abc import Sequence

import numpy as np

Entity = tuple[str, int, int]  # type, first word, last word


def entities(tags: Sequence[str]) -> set[Entity]:
    """The entities of one sentence.

    >>> sorted(entities(["B-person", "I-person", "O", "I-place", "B-place"]))
    [('person', 0, 1), ('place', 3, 3), ('place', 4, 4)]
    """
    found: set[Entity] = set()
    before, kind, start = "O", "", 0
    for position, tag in enumerate([*tags, "O"]):
        prefix, _, type_ = tag.partition("-")
        type_ = type_ or "_"
        inside = before != "O"
        if inside and (prefix in "OBS" or before in ("E", "S") or type_ != kind):
            found.add((kind, start, position - 1))
            inside = False
        if prefix != "O" and not inside:
            start = position
        before, kind = prefix, type_
    return found


def counts(
    answers: np.ndarray, labels: np.ndarray, names: Sequence[str], offsets: np.ndarray
) -> dict[str, tuple[int, int, int]]:
    """(right, answered, true) entities by type.

    Args:
      answers, labels: integers (words,), positions in `names`.
      offsets: (sentences + 1,), where each sentence begins.
    """
    table: dict[str, list[int]] = {}
    for start, stop in itertools.pairwise(offsets):
        said, true = (entities([names[tag] for tag in tags[start:stop]]) for tags in (answers, labels))
        for column, group in enumerate((said & true, said, true)):
            for type_, _, _ in group:
                table.setdefault(type_, [0, 0, 0])[column] += 1
    return {type_: (row[0], row[1], row[2]) for type_, row in sorted(table.items())}


def precision_recall_f1(right: int, answered: int, true: int) -> tuple[float, float, float]:
    """Each 0 where it would be 0 / 0, as in seqeval."""
    precision = right / answered if answered else 0.0
    recall = right / true if true else 0.0
    return precision, recall, 2 * right / (answered + true) if answered + true else 0.0
