"""Entities in tagged sentences, defined as in seqeval's default mode.

A tag is `O`, a prefix with a type such as `B-person`, or a prefix alone. Consecutive tags of one type are an entity. B
and S begin an entity, E and S end one, and an I that does not continue an entity begins one too (conlleval's rule,
valid for IOB1, IOB2 and IOBES files). L is read as E, U and W as S, M as I (BILOU, BMES, BMEWO). If any tag has no such
prefix, as in part-of-speech tagging, the tags are classes of tokens and there are no entities.
"""

import itertools
from collections.abc import Iterable, Sequence

import numpy as np

from tlx.errors import listed

Entity = tuple[str, int, int]  # type, first word, last word
OUTSIDE = "O"
PREFIXES = {**{prefix: prefix for prefix in "OBIES"}, "L": "E", "U": "S", "W": "S", "M": "I"}


def has_entities(names: Sequence[str]) -> bool:
    """Returns whether the tags of a set form an entity scheme, rather than classes of tokens.

    >>> has_entities(["O", "B-person", "I-person"]), has_entities(["ADJ", "NOUN", "VERB"])
    (True, False)
    """
    parts = [name.partition("-") for name in names if name != OUTSIDE]
    prefixes = {prefix for prefix, _, _ in parts}
    if not parts or not prefixes <= PREFIXES.keys() - {OUTSIDE}:
        return False
    typed = {dash + type_ != "" for _, dash, type_ in parts}
    if typed == {True}:  # with the prefix S alone (one-word entities), it is a scheme only if there is `O` too
        return all(type_ for _, _, type_ in parts) and (OUTSIDE in names or bool(prefixes & {"B", "I"}))
    return typed == {False} and bool(prefixes & {"B", "I"})


def near_scheme(names: Sequence[str]) -> str:
    """Explains why tags that are not an entity scheme may be meant as one; "" if nothing suggests it."""
    odd = [name for name in names if name != OUTSIDE and name.partition("-")[0] not in PREFIXES]
    if all(name.lstrip("-").isdecimal() for name in names):
        return "they are numbers; if they encode tags such as B-person, use these tags instead"
    if OUTSIDE in names and odd and any(name[:2] in ("B-", "I-") for name in names):
        return f"some are entity tags (B-…, I-…), but not {listed(odd)}"
    for how, converted in (
        ("in lower case", [name.upper() for name in names]),
        ("with an underscore", [name.replace("_", "-", 1) for name in names]),
        ("with the prefix at the end", ["-".join(reversed(name.rsplit("-", 1))) for name in names]),
    ):
        if has_entities(converted):
            return f"they look like entity tags written {how}; the expected form is B-person"
    return ""


def scheme_of(sentences: Iterable[Sequence[str]]) -> str | None:
    """Returns the entity scheme of tagged sentences: `IOB1`, `IOB2`, `IOB` (neither), `IO`, `BIOES`, `BILOU` or `BMES`.

    In IOB2 every entity begins with B; in IOB1 only an entity that directly follows another of its type does (Tjong Kim
    Sang & Veenstra 1999). The result is None if the tags are not an entity scheme.
    """
    sentences = list(sentences)
    names = sorted({tag for tags in sentences for tag in tags})
    if not has_entities(names):
        return None
    prefixes = {name.partition("-")[0] for name in names}
    for letters, scheme in (("LU", "BILOU"), ("MW", "BMES"), ("ES", "BIOES")):
        if prefixes & set(letters):
            return scheme
    if "B" not in prefixes:
        return "IO"
    is_iob2 = is_iob1 = True
    for previous, tag in (pair for tags in sentences for pair in itertools.pairwise([OUTSIDE, *tags])):
        follows = previous != OUTSIDE and previous.partition("-")[2] == tag.partition("-")[2]
        is_iob2 &= not tag.startswith("I") or follows
        is_iob1 &= not tag.startswith("B") or follows
    return "IOB2" if is_iob2 else "IOB1" if is_iob1 else "IOB"


def entities(tags: Sequence[str]) -> set[Entity]:
    """Returns the entities of one sentence.

    >>> sorted(entities(["B-person", "I-person", "O", "I-place", "B-place"]))
    [('person', 0, 1), ('place', 3, 3), ('place', 4, 4)]
    """
    result: set[Entity] = set()
    previous, entity_type, start = "O", "", 0
    for position, tag in enumerate([*tags, "O"]):
        prefix, _, type_ = tag.partition("-")
        prefix, type_ = PREFIXES[prefix], type_ or "_"
        inside = previous != "O"
        if inside and (prefix in "OBS" or previous in ("E", "S") or type_ != entity_type):
            result.add((entity_type, start, position - 1))
            inside = False
        if prefix != "O" and not inside:
            start = position
        previous, entity_type = prefix, type_
    return result


def counts(
    predictions: np.ndarray, labels: np.ndarray, names: Sequence[str], offsets: np.ndarray
) -> dict[str, tuple[int, int, int]]:
    """Counts entities by type: (correct, predicted, true).

    Args:
      predictions: integers (words,), positions in `names`; -1 for a word without a prediction, which is read as `O`.
      labels: integers (words,), positions in `names`.
      names: the tags.
      offsets: integers (sentences + 1,), where each sentence begins.
    """
    table: dict[str, list[int]] = {}
    for start, stop in itertools.pairwise(offsets):
        predicted, true = (
            entities([names[tag] if tag >= 0 else OUTSIDE for tag in tags[start:stop]])
            for tags in (predictions, labels)
        )
        for column, group in enumerate((predicted & true, predicted, true)):
            for type_, _, _ in group:
                table.setdefault(type_, [0, 0, 0])[column] += 1
    return {type_: (row[0], row[1], row[2]) for type_, row in sorted(table.items())}


def precision_recall_f1(correct: int, predicted: int, true: int) -> tuple[float, float, float]:
    """Returns precision, recall and F1 from counts; a score that would be 0 / 0 is 0, as in seqeval."""
    precision = correct / predicted if predicted else 0.0
    recall = correct / true if true else 0.0
    return precision, recall, 2 * correct / (predicted + true) if predicted + true else 0.0
