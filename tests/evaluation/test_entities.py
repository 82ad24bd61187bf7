"""Entities against seqeval, on tags that nobody would write too."""

import doctest
import itertools
import warnings

import numpy as np
import pytest
from seqeval.metrics import accuracy_score, f1_score, precision_score, recall_score
from seqeval.metrics.sequence_labeling import get_entities
from sklearn.metrics import f1_score as macro_f1

from tlx.evaluation import entities as module
from tlx.evaluation.entities import entities
from tlx.evaluation.metrics import measure

NAMES = ("O", *(f"{prefix}-{kind}" for prefix in "BIES" for kind in ("person", "place", "work-of-art")))


def flat(sentences: list[list[str]]) -> list[str]:
    return list(itertools.chain.from_iterable(sentences))


def draw(seed: int, names: tuple[str, ...]) -> list[list[str]]:
    random = np.random.default_rng(seed)
    return [random.choice(names, random.integers(1, 12)).tolist() for _ in range(20)]


def test_docstring() -> None:
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("seed", range(50))
def test_entities_are_seqevals(seed: int) -> None:
    for tags in draw(seed, NAMES):
        assert entities(tags) == set(get_entities(tags)), tags


@pytest.mark.parametrize("seed", range(20))
def test_scores_are_seqevals(seed: int) -> None:
    """Answers that are right three times in four."""
    random = np.random.default_rng(seed)
    names = NAMES[:7] if seed % 2 else NAMES
    true = draw(seed, names)
    said = [[t if random.random() < 0.75 else str(random.choice(names)) for t in tags] for tags in true]
    labels, predictions = (
        np.array([names.index(tag) for tags in sentences for tag in tags]) for sentences in (true, said)
    )
    offsets = np.concatenate([[0], np.cumsum([len(tags) for tags in true])])
    logits = np.eye(len(names))[predictions] + random.uniform(0, 0.5, (len(predictions), len(names)))
    found = measure("tagging", logits, labels, names, offsets)
    assert found == pytest.approx(
        {
            "accuracy": accuracy_score(true, said),
            "macro_f1": macro_f1(flat(true), flat(said), average="macro"),
            "entity_precision": precision_score(true, said),
            "entity_recall": recall_score(true, said),
            "entity_f1": f1_score(true, said),
        },
        abs=1e-12,
    )


@pytest.mark.parametrize(
    ("true", "said"),
    [("O O", "O O"), ("B-x O", "O O"), ("O O", "B-x I-x"), ("I-x I-y", "B-x B-y"), ("B-x I-x", "I-x B-x")],
)
def test_degenerate_scores_are_seqevals(true: str, said: str) -> None:
    names = ("O", "B-x", "I-x", "B-y", "I-y")
    labels, predictions = (np.array([names.index(tag) for tag in tags.split()]) for tags in (true, said))
    found = measure("tagging", np.eye(5)[predictions], labels, names, np.array([0, 2]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pair = [true.split()], [said.split()]
        expected = precision_score(*pair), recall_score(*pair), f1_score(*pair)
    assert tuple(found[name] for name in ("entity_precision", "entity_recall", "entity_f1")) == pytest.approx(expected)
