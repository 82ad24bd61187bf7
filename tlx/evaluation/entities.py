"""Entities in tagged sentences, by the definition that seqeval's default mode uses.

Tags are `O` or a prefix and a type, `B-person`, or the prefix alone. A run of tags of one type is an entity; B and S
begin one, E and S end one, and an I without anything before it to go on from begins one too (conlleval's rule, which
IOB1, IOB2 and IOBES files all obey). L is read as E, U and W as S, M as I (BILOU, BMES, BMEWO). Tags of which one has
no such prefix, as those of parts of speech, are classes of tokens, and there are no entities.
"""

import itertools
from collections.abc import Iterable, Sequence

import numpy as np

from tlx.errors import listed

Entity = tuple[str, int, int]  # type, first word, last word
OUTSIDE = "O"
PREFIXES = {**{prefix: prefix for prefix in "OBIES"}, "L": "E", "U": "S", "W": "S", "M": "I"}


def has_entities(names: Sequence[str]) -> bool:
    """Whether the tags of a set are those of an entity scheme, rather than classes of tokens.

    >>> has_entities(["O", "B-person", "I-person"]), has_entities(["ADJ", "NOUN", "VERB"])
    (True, False)
    """
    parts = [name.partition("-") for name in names if name != OUTSIDE]
    prefixes = {prefix for prefix, _, _ in parts}
    if not parts or not prefixes <= PREFIXES.keys() - {OUTSIDE}:
        return False
    typed = {dash + type_ != "" for _, dash, type_ in parts}
    if typed == {True}:  # of one-word entities alone, `S-x`, only beside `O`
        return all(type_ for _, _, type_ in parts) and (OUTSIDE in names or bool(prefixes & {"B", "I"}))
    return typed == {False} and bool(prefixes & {"B", "I"})


def near_scheme(names: Sequence[str]) -> str:
    """Of tags that are no entity scheme, why they may be meant as one, in words; empty where nothing suggests it."""
    odd = [name for name in names if name != OUTSIDE and name.partition("-")[0] not in PREFIXES]
    if all(name.lstrip("-").isdecimal() for name in names):
        return "they are numbers; if they stand for tags such as B-person, give those in their place"
    if OUTSIDE in names and odd and any(name[:2] in ("B-", "I-") for name in names):
        return f"some are those of entities (B-…, I-…), but not {listed(odd)}"
    for how, other in (
        ("in lower case", [name.upper() for name in names]),
        ("with an underscore", [name.replace("_", "-", 1) for name in names]),
        ("with the prefix at the end", ["-".join(reversed(name.rsplit("-", 1))) for name in names]),
    ):
        if has_entities(other):
            return f"they look like those of entities written {how}; the form that is read is B-person"
    return ""


def scheme_of(sentences: Iterable[Sequence[str]]) -> str | None:
    """The scheme that tagged sentences are written in: `IOB1`, `IOB2`, `IOB` (neither), `IO`, `BIOES`, `BILOU`, `BMES`;
    None for tags that are no entity scheme.

    IOB2 begins every entity with B, IOB1 only one that follows another of its type (Tjong Kim Sang & Veenstra 1999).
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
    begun = adjoining = True
    for before, tag in (pair for tags in sentences for pair in itertools.pairwise([OUTSIDE, *tags])):
        follows = before != OUTSIDE and before.partition("-")[2] == tag.partition("-")[2]
        begun &= not tag.startswith("I") or follows
        adjoining &= not tag.startswith("B") or follows
    return "IOB2" if begun else "IOB1" if adjoining else "IOB"


def entities(tags: Sequence[str]) -> set[Entity]:
    """The entities of one sentence.

    >>> sorted(entities(["B-person", "I-person", "O", "I-place", "B-place"]))
    [('person', 0, 1), ('place', 3, 3), ('place', 4, 4)]
    """
    found: set[Entity] = set()
    before, kind, start = "O", "", 0
    for position, tag in enumerate([*tags, "O"]):
        prefix, _, type_ = tag.partition("-")
        prefix, type_ = PREFIXES[prefix], type_ or "_"
        inside = before != "O"
        if inside and (prefix in "OBS" or before in ("E", "S") or type_ != kind):
            found.add((kind, start, position - 1))
            inside = False
        if prefix != "O" and not inside:
            start = position
        before, kind = prefix, type_
    return found


def counts(
    predictions: np.ndarray, labels: np.ndarray, names: Sequence[str], offsets: np.ndarray
) -> dict[str, tuple[int, int, int]]:
    """(right, answered, true) entities by type.

    Args:
      answers, labels: integers (words,), positions in `names`; an answer of -1 is none, and outside of all entities.
      offsets: (sentences + 1,), where each sentence begins.
    """
    table: dict[str, list[int]] = {}
    for start, stop in itertools.pairwise(offsets):
        said, true = (
            entities([names[tag] if tag >= 0 else OUTSIDE for tag in tags[start:stop]])
            for tags in (predictions, labels)
        )
        for column, group in enumerate((said & true, said, true)):
            for type_, _, _ in group:
                table.setdefault(type_, [0, 0, 0])[column] += 1
    return {type_: (row[0], row[1], row[2]) for type_, row in sorted(table.items())}


def precision_recall_f1(right: int, answered: int, true: int) -> tuple[float, float, float]:
    """Each 0 where it would be 0 / 0, as in seqeval."""
    precision = right / answered if answered else 0.0
    recall = right / true if true else 0.0
    return precision, recall, 2 * right / (answered + true) if answered + true else 0.0
