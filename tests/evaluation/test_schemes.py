"""Which tags form entities, and in which scheme, against seqeval's strict reading and hand-written tags."""

import itertools

import numpy as np
import pytest
from seqeval.metrics import f1_score
from seqeval.scheme import BILOU, IOB1, IOB2, IOBES, Entities
from sklearn import metrics as sk

from tlx.errors import TlxError
from tlx.evaluation.entities import entities, has_entities, near_scheme, scheme_of
from tlx.evaluation.metrics import ENTITY, default_monitor, measure
from tlx.evaluation.per_class import per_class

SCHEMES = {"IOB1": IOB1, "IOB2": IOB2, "BIOES": IOBES, "BILOU": BILOU}


def flat(sentences: list[list[str]]) -> list[str]:
    return list(itertools.chain.from_iterable(sentences))


def written(length: int, spans: list[tuple[str, int, int]], scheme: str) -> list[str]:
    """The tags of entities (type, first word, last word)."""
    tags = ["O"] * length
    for kind, first, last in spans:
        follows = any(other == kind and end == first - 1 for other, _, end in spans)
        letters = ["I"] * (last - first + 1)
        if scheme != "IOB1" or follows:
            letters[0] = "B"
        if scheme in ("BIOES", "BILOU", "BMES"):
            letters = ["M" if letter == "I" and scheme == "BMES" else letter for letter in letters]
            letters[-1] = "L" if scheme == "BILOU" else "E"
            letters = letters if first < last else ["U" if scheme == "BILOU" else "S"]
        tags[first : last + 1] = [f"{letter}-{kind}" for letter in letters]
    return tags


def spans_of(seed: int) -> list[list[tuple[str, int, int]]]:
    """Of twelve words, with entities that adjoin."""
    random = np.random.default_rng(seed)
    sentences = []
    for _ in range(30):
        ends = [0, *sorted(random.choice(np.arange(1, 12), 5, replace=False).tolist()), 12]
        spans = [(str(random.choice(["person", "place"])), a, b - 1) for a, b in itertools.pairwise(ends)]
        sentences.append([span for span in spans if random.random() < 0.6])
    return sentences


@pytest.mark.parametrize("scheme", [*SCHEMES, "BMES"])
def test_schemes(scheme: str) -> None:
    spans = spans_of(0)
    tags = [written(12, row, scheme) for row in spans]
    assert scheme_of(tags) == scheme
    assert [entities(row) for row in tags] == [set(row) for row in spans]
    if scheme in SCHEMES:
        strict = Entities(tags, SCHEMES[scheme]).entities
        assert [{(e.tag, e.start, e.end - 1) for e in row} for row in strict] == [set(row) for row in spans]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("O B-x I-x", True), ("O I-x", True), ("B I O", True), ("B M E S", True), ("O S-x", True), ("O U-x", True),
        ("NOUN VERB O", False), ("N V A", False), ("NN NN-TL IN-TL", False), ("S-N S-V", False), ("O X", False),
        ("B-x I-x O MISC", False), ("B-x I O", False), ("-LRB- I-x O", False), ("O", False), ("B- I- O", False),
        ("b-x i-x O", False), ("x-B x-I O", False),
    ],
)  # fmt: skip
def test_has_entities(names: str, expected: bool) -> None:
    assert has_entities(names.split()) is expected
    assert default_monitor("tagging", names.split()) == ("entity_f1" if expected else "accuracy")


def test_neither_of_the_two() -> None:
    assert scheme_of([["B-x", "O"], ["I-x", "O"]]) == "IOB"
    assert scheme_of([["I-x", "O"]]) == "IO"
    assert scheme_of([["NOUN", "VERB"]]) is None


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("O B-x I-x MISC", "but not MISC"), ("0 1 2", "they are numbers"), ("-100 0", "they are numbers"),
        ("o b-x i-x", "in lower case"), ("O B_x I_x", "with an underscore"), ("O x-B x-I", "prefix at the end"),
        ("O X", ""), ("NOUN VERB", ""), ("NN NN-TL IN", ""), ("a b c", ""), ("VB_x NN_y", ""),
    ],
)  # fmt: skip
def test_what_may_be_meant_as_entities(names: str, expected: str) -> None:
    assert expected in near_scheme(names.split()) and bool(near_scheme(names.split())) == bool(expected)


def test_published_example() -> None:
    """The example of the Hugging Face metric `poseval`, whose authors give 0.8 and 0.6667; it has no entity F1."""
    words = ["INTJ", "ADP", "PROPN"]
    true = [[*words, "PROPN", "PUNCT", *words, "PROPN", "SYM"]]
    said = [[*words, "NOUN", "PUNCT", *words, "VERB", "SYM"]]
    names = tuple(sorted({tag for tags in true + said for tag in tags}))
    labels, predictions = (np.array([names.index(tag) for tags in rows for tag in tags]) for rows in (true, said))
    found = measure("tagging", np.eye(len(names))[predictions], labels, names, np.array([0, 10]))
    pair = flat(true), flat(said)
    expected = {"accuracy": sk.accuracy_score(*pair), "macro_f1": sk.f1_score(*pair, average="macro", zero_division=0)}
    assert found == pytest.approx(expected, abs=1e-12)
    assert found == pytest.approx({"accuracy": 0.8, "macro_f1": 2 / 3})
    rows = per_class("tagging", np.eye(len(names))[predictions], labels, names, np.array([0, 10]))
    columns = zip(*sk.precision_recall_fscore_support(*pair, labels=names, zero_division=0), strict=True)
    assert [row.name for row in rows] == list(names)
    for row, values in zip(rows, columns, strict=True):
        assert (row.precision, row.recall, row.f1, row.support) == pytest.approx(values)


def test_what_was_not_predicted_is_wrong() -> None:
    """As scikit-learn and seqeval score another tag, or none, in its place."""
    names = ("O", "B-x", "I-x")
    true = [["B-x", "I-x", "O", "B-x"], ["O", "B-x", "I-x"]]
    said = [["B-x", "I-x", "O", "?"], ["?", "B-x", "?"]]
    labels = np.array([names.index(tag) for tags in true for tag in tags])
    predictions = np.array([np.full(3, np.nan) if t == "?" else np.eye(3)[names.index(t)] for row in said for t in row])
    seen = ~np.isnan(predictions).any(-1)
    found = measure("tagging", predictions, labels, names, np.array([0, 4, 7]), seen)
    assert found["accuracy"] == pytest.approx(4 / 7)
    assert found["macro_f1"] == pytest.approx(
        sk.f1_score(flat(true), flat(said), average="macro", labels=names, zero_division=0)
    )
    as_outside = [["O" if tag == "?" else tag for tag in tags] for tags in said]
    assert found["entity_f1"] == pytest.approx(f1_score(true, as_outside)) == pytest.approx(2 / 5)
    assert {name for name in found if name in ENTITY} == set(ENTITY)
    with pytest.raises(TlxError, match="none of the split's 7 words can be predicted"):
        measure("tagging", predictions, labels, names, np.array([0, 4, 7]), seen & False)
    with pytest.raises(TlxError, match="3 of 7 predictions are NaN"):
        measure("tagging", predictions, labels, names, np.array([0, 4, 7]))
