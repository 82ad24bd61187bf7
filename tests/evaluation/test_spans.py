"""Choosing answers and measuring them, compared with transformers' post-processing and SQuAD's official evaluation.

transformers decodes in two ways. `reference` follows, in plain loops over Python numbers, the definition of
`postprocess_qa_predictions` of its question answering examples, which no package has. The pipelines' own function,
`select_starts_ends`, is called: it looks at all spans, and so is the answer of `n_best` tokens as many as there are.
"""

import collections
import itertools
import re
import string
from typing import Any

import numpy as np
import pytest

from tlx.data.spans import Spans
from tlx.evaluation.spans import best_answers, f1, mean_loss, normalised, question_scores, token_f1
from tlx.models.heads import Head

CONTEXT = "".join(chr(97 + i % 26) for i in range(200))


def made(seed: int, questions: int = 12, spread: float = 3.0) -> tuple[np.ndarray, np.ndarray, Spans]:
    """Logits, offsets and questions of one to four windows: [CLS], a question, [SEP], a part of the context, [SEP]."""
    random = np.random.default_rng(seed)
    chars, sizes, windows = [], [], [0]
    for _ in range(questions):
        count, asked = random.integers(1, 5), random.integers(1, 6)
        for first in range(count):
            length = random.integers(0 if count > 1 else 1, 25)
            starts = 4 * first + np.cumsum(random.integers(1, 4, length))
            of_context = np.stack([starts, starts + 1], axis=1).reshape(-1, 2)
            nothing = np.full((1, 2), -1)
            chars.append(np.concatenate([np.repeat(nothing, asked + 2, axis=0), of_context, nothing]))
            sizes.append(len(chars[-1]))
        windows.append(windows[-1] + count)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    spans = Spans(
        np.array(windows), np.concatenate(chars).astype(np.int32), [CONTEXT] * questions, [()] * questions,
        np.arange(questions),
    )  # fmt: skip
    logits = (spread * random.normal(size=(int(offsets[-1]), 2))).astype(np.float32)
    if seed % 2:  # no answer is likely
        logits[offsets[:-1]] += 2 * spread
    return logits, offsets, spans


def reference(logits: np.ndarray, offsets: np.ndarray, spans: Spans, head: Head) -> list[tuple[str, float]]:
    """By the definition: n-best first and last tokens, each pair, then a sorted list in which none may be the best."""
    found = []
    for question in range(len(spans)):
        listed: list[dict[str, Any]] = []
        null: dict[str, Any] | None = None
        for window in range(spans.windows[question], spans.windows[question + 1]):
            rows = list(range(offsets[window], offsets[window + 1]))
            score = logits[rows[0], 0] + logits[rows[0], 1]
            if null is None or score < null["score"]:
                null = {"score": score, "text": "", "ends": (logits[rows[0], 0], logits[rows[0], 1])}
            best = [sorted(rows, key=lambda row: -logits[row, end])[: head.n_best] for end in (0, 1)]
            for first in best[0]:
                for last in best[1]:
                    outside = spans.chars[first, 0] < 0 or spans.chars[last, 0] < 0
                    if outside or last < first or last - first + 1 > head.max_answer_length:
                        continue
                    text = spans.contexts[question][spans.chars[first, 0] : spans.chars[last, 1]]
                    ends = (logits[first, 0], logits[last, 1])
                    listed.append({"score": ends[0] + ends[1], "text": text, "ends": ends})
        assert null is not None
        with_null = head.null_threshold is not None
        kept = sorted([*listed, *([null] if with_null else [])], key=lambda each: -each["score"])[: head.n_best]
        if with_null and not any(each is null for each in kept):
            kept.append(null)
        answers = [each for each in kept if each["text"]]
        if not answers:
            found.append(("", 1.0))
            continue
        chosen = answers[0]
        if with_null and float(null["score"] - chosen["ends"][0] - chosen["ends"][1]) > float(head.null_threshold or 0):
            chosen = null
        powers = [np.exp(float(each["score"]) - float(chosen["score"])) for each in kept]
        found.append((chosen["text"], 1 / sum(powers)))
    return found


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"n_best": 3, "max_answer_length": 4},
        {"null_threshold": 0.0},
        {"null_threshold": -1.5, "n_best": 4},
        {"null_threshold": 2.0, "max_answer_length": 2},
    ],
)
def test_answers_are_those_of_the_question_answering_examples(seed: int, settings: dict[str, Any]) -> None:
    head = Head("question_answering", 2, **settings)
    logits, offsets, spans = made(seed)
    expected, got = reference(logits, offsets, spans, head), best_answers(logits, offsets, spans, head)
    assert [answer.text for answer in got] == [text for text, _ in expected]
    np.testing.assert_allclose([answer.probability for answer in got], [p for _, p in expected], rtol=1e-5)
    for answer in got:
        assert (answer.start is None) == (answer.text == "")
        assert answer.start is None or CONTEXT[answer.start :].startswith(answer.text)
    if settings.get("null_threshold") is not None:
        some = {answer.text == "" for answer in got}
        assert some == {True, False} if seed % 2 else False in some


def test_answers_are_those_of_the_pipelines() -> None:
    """One window a question, all first and last tokens; the pipelines' scores are products of probabilities."""
    from transformers.pipelines.document_question_answering import select_starts_ends

    for seed in range(0, 20, 2):
        logits, offsets, spans = made(seed, questions=1, spread=2.0)
        one = slice(0, offsets[1])
        spans = Spans(np.array([0, 1]), spans.chars[one], spans.contexts, spans.answers, spans.question_id)
        head = Head("question_answering", 2, n_best=1000, max_answer_length=5)
        (answer,) = best_answers(logits[one], offsets[:2], spans, head)
        outside = (spans.chars[:, 0] < 0).astype(int)
        starts, ends, _, _ = select_starts_ends(
            logits[one, 0][None], logits[one, 1][None], outside[None], np.ones((1, len(outside)), int),
            max_answer_len=5,
        )  # fmt: skip
        assert answer.text == CONTEXT[spans.chars[starts[0], 0] : spans.chars[ends[0], 1]] != ""


def official(predicted: str, true: list[str]) -> tuple[float, float]:
    """Exact match and F1 by the description of the evaluation: precision and recall of a bag of normalised words."""

    def bare(text: str) -> list[str]:
        kept = "".join(letter for letter in text.lower() if letter not in string.punctuation)
        return re.sub(r"\b(a|an|the)\b", " ", kept).split()

    def overlap(one: list[str], other: list[str]) -> float:
        if not one or not other:
            return float(one == other)
        common = sum((collections.Counter(one) & collections.Counter(other)).values())
        if not common:
            return 0.0
        precision, recall = common / len(one), common / len(other)
        return 2 * precision * recall / (precision + recall)

    known = [text for text in true if bare(text)] or [""]
    return (
        max(float(bare(predicted) == bare(text)) for text in known),
        max(overlap(bare(predicted), bare(text)) for text in known),
    )


def test_exact_match_and_f1_are_the_official_ones() -> None:
    random = np.random.default_rng(0)
    words = ["The", "a", "an", "cat,", "cat", "theatre", "U.S.", "us", "--", "Café", "an-other", "\n", "1,000"]
    texts = [" ".join(random.choice(words, random.integers(0, 5))) for _ in range(300)]
    true = [[*random.choice(texts, random.integers(0, 4))] for _ in texts]
    scores = question_scores(texts, [tuple((text, 0) for text in each) for each in true])
    np.testing.assert_allclose(scores, [official(text, each) for text, each in zip(texts, true, strict=True)])
    assert 0.1 < f1(scores, scores[:, 0]) < 0.9


@pytest.mark.parametrize(
    ("predicted", "true", "expected"),
    [
        ("The Eiffel Tower.", "eiffel tower", 1.0),
        ("in Paris, France", "Paris", 0.5),  # precision 1/3, recall 1
        ("Lyon", "Paris", 0.0),
        ("", "Paris", 0.0),
        ("the", "a", 1.0),
    ],
)
def test_f1_by_hand(predicted: str, true: str, expected: float) -> None:
    assert token_f1(predicted, true) == pytest.approx(expected)


def test_normalised() -> None:
    assert normalised(" The  U.S. theatre,\tan  Act ") == "us theatre act"


def test_mean_loss_is_that_of_scipy() -> None:
    from scipy.special import log_softmax

    logits, offsets, _ = made(0)
    random, labels, losses = np.random.default_rng(1), np.zeros_like(logits, np.int8), []
    for start, stop in itertools.pairwise(offsets):
        ends = random.integers(0, stop - start, 2)
        labels[start + ends, [0, 1]] = 1
        logs = log_softmax(logits[start:stop].astype(np.float64), axis=0)
        losses.append(-(logs[ends[0], 0] + logs[ends[1], 1]) / 2)
    assert mean_loss(logits, labels, offsets) == pytest.approx(np.mean(losses), rel=1e-12)
