"""Answers that are spans of a context: chosen from the logits of its tokens, and compared with the true ones.

Exact match and F1 are those of SQuAD's official evaluation (Rajpurkar et al. 2016; for questions without an answer
Rajpurkar et al. 2018), as fractions, not per cent.
"""

import dataclasses
import re
import string
from collections import Counter
from collections.abc import Sequence

import numpy as np

from tlx.data.answers import Answers
from tlx.data.spans import Spans
from tlx.models.heads import Head

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclasses.dataclass(frozen=True)
class Answer:
    """A predicted answer.

    Attributes:
      text: the answer, a part of the context; "" for no answer.
      start: the position of its first character in the context; None for no answer.
      probability: the softmax of its score over the `n_best` best answers.
    """

    text: str
    start: int | None
    probability: float


def best_answers(logits: np.ndarray, offsets: np.ndarray, spans: Spans, head: Head) -> list[Answer]:
    """Chooses the answer of each question, as transformers' question answering examples do.

    The score of a span is the sum of its first token's first logit and its last token's second logit. In each window
    the `n_best` best first and last tokens are combined; a span is kept if it lies in the context, does not end before
    it begins and has at most `max_answer_length` tokens. The best span of all windows is the answer. If
    `null_threshold` is set, the score of no answer is that of the windows' first tokens, the smallest of all windows,
    and there is no answer if it exceeds the best span's by more than the threshold.

    Args:
      logits: float (tokens, 2), of all tokens of the set.
      offsets: int64 (examples + 1,), where each window's tokens begin.
      spans: the questions.
      head: gives `n_best`, `max_answer_length` and `null_threshold`.
    """
    return [
        _choose(*_candidates(logits, offsets, spans, question, head), spans.contexts[question], head)
        for question in range(len(spans))
    ]


def _candidates(
    logits: np.ndarray, offsets: np.ndarray, spans: Spans, question: int, head: Head
) -> tuple[np.ndarray, np.ndarray, float]:
    """The scores (spans,) and characters (spans, 2) of the spans of a question, and the score of no answer."""
    scores, places, null = [np.zeros(0, logits.dtype)], [np.zeros((0, 2), np.int32)], np.inf
    for window in range(spans.windows[question], spans.windows[question + 1]):
        tokens = slice(offsets[window], offsets[window + 1])
        begin, end = logits[tokens].T
        chars = spans.chars[tokens]
        null = min(null, float(begin[0] + end[0]))
        first, last = (np.argsort(one)[::-1][: head.n_best] for one in (begin, end))
        length = last[None, :] - first[:, None] + 1
        kept = (chars[first, :1] >= 0) & (chars[last, 0] >= 0) & (length >= 1) & (length <= head.max_answer_length)
        i, j = np.nonzero(kept)
        scores.append(begin[first[i]] + end[last[j]])
        places.append(np.stack([chars[first[i], 0], chars[last[j], 1]], axis=1))
    return np.concatenate(scores), np.concatenate(places), null


def _choose(scores: np.ndarray, places: np.ndarray, null: float, context: str, head: Head) -> Answer:
    order = np.argsort(-scores, kind="stable")[: head.n_best]
    known = scores[order].astype(np.float64)
    nothing = not len(order)
    if head.null_threshold is not None:
        nothing = nothing or null - known[0] > head.null_threshold
        # The best answers are as many with the one that there is none; it is always among them.
        known = np.append(known[: head.n_best - 1] if len(known) and null > known[-1] else known, null)
    if nothing:
        probability = 1.0 if head.null_threshold is None else _softmax(known)[-1]
        return Answer("", None, float(probability))
    start, stop = places[order[0]].tolist()
    return Answer(context[start:stop], start, float(_softmax(known)[0]))


def _softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max())
    return np.asarray(powers / powers.sum())


def normalised(text: str) -> str:
    """Returns an answer in lower case without punctuation, articles (a, an, the) and superfluous spaces."""
    return " ".join(ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split())


def token_f1(predicted: str, true: str) -> float:
    """Returns the harmonic mean of precision and recall of the words of an answer, both normalised.

    If one of the two has no words, it is 1 if the other has none either, else 0.
    """
    words, known = normalised(predicted).split(), normalised(true).split()
    if not words or not known:
        return float(words == known)
    common = sum((Counter(words) & Counter(known)).values())
    return 2 * common / (len(words) + len(known))


def question_scores(predicted: Sequence[str], true: Sequence[Answers]) -> np.ndarray:
    """Returns exact match and F1 of each question, float64 (questions, 2): the best over its true answers.

    Args:
      predicted: the predicted answers, "" for none.
      true: the true answers of each question; () for none, which only "" matches.
    """
    rows = []
    for text, answers in zip(predicted, true, strict=True):
        known = [answer for answer, _ in answers if normalised(answer)] or [""]
        exact = max(float(normalised(text) == normalised(answer)) for answer in known)
        rows.append((exact, max(token_f1(text, answer) for answer in known)))
    return np.array(rows, np.float64).reshape(-1, 2)


def exact_match(scores: np.ndarray, _: np.ndarray) -> float:
    """The mean exact match, from `question_scores`."""
    return float(scores[:, 0].mean())


def f1(scores: np.ndarray, _: np.ndarray) -> float:
    """The mean F1, from `question_scores`."""
    return float(scores[:, 1].mean())


def mean_loss(logits: np.ndarray, labels: np.ndarray, offsets: np.ndarray) -> float:
    """Returns `tlx.losses.supervised.span_cross_entropy` over all windows.

    Args:
      logits: (tokens, 2).
      labels: (tokens, 2), see `tlx.data.spans.span_labels`.
      offsets: int64 (windows + 1,), where each window's tokens begin.
    """
    values = logits.astype(np.float64)
    every = np.logaddexp.reduceat(values, offsets[:-1], axis=0)
    return float((every.sum() - (values * labels).sum()) / every.size)
