"""Questions about contexts, read in windows, and the characters of the context that each token stands for."""

import dataclasses
import json
from collections.abc import Iterator, Sequence

import numpy as np

from tlx.data.answers import Answers, check_answers
from tlx.data.sources import Table
from tlx.errors import TlxError

NOWHERE = -1  # in place of a character, for tokens that are not of the context


@dataclasses.dataclass(frozen=True)
class Spans:
    """The questions of a set; a question is one example or, if its context is long, several windows.

    Attributes:
      windows: int64 (questions + 1,), the first example of each question.
      chars: int32 (tokens, 2), for each token of the set the first character of the context that it stands for, and the
        one after its last; -1 for tokens that are not of the context.
      contexts: the context of each question.
      answers: the answers of each question, () if it has none; None for a set without labels.
      question_id: int64 (questions,), the row of each question in the source.
      unreachable: the number of questions that have an answer and no window that holds the first one as a whole.
    """

    windows: np.ndarray
    chars: np.ndarray
    contexts: Sequence[str]
    answers: Sequence[Answers] | None
    question_id: np.ndarray
    unreachable: int = 0

    def __len__(self) -> int:
        return len(self.question_id)

    def content(self) -> Iterator[bytes]:
        """The bytes that identify the questions, beside those of their tokens."""
        yield np.ascontiguousarray(self.chars).tobytes()
        yield json.dumps([self.contexts, self.answers]).encode()


def answer_column(table: Table, column: str, contexts: Sequence[str], may_be_empty: bool) -> list[Answers]:
    """Returns the answers of each row.

    Args:
      table: the table.
      column: the column of the answers; a value is as in `check_answers`.
      contexts: the context of each row.
      may_be_empty: whether a question may have no answer.

    Raises:
      TlxError: as for `check_answers`; or a question has no answer where all should have one.
    """
    found = []
    for row, (value, context) in enumerate(zip(table.column(column), contexts, strict=True)):
        answers = check_answers(value, context, table.place(row), column)
        if not answers and not may_be_empty:
            raise TlxError(
                f"{table.place(row)}: the question has no answer in {column!r}; drop the row, or set "
                "config.head.null_threshold=0.0 to train on questions without an answer as well."
            )
        found.append(answers)
    return found


def locate(chars: np.ndarray, answer: tuple[str, int]) -> tuple[int, int] | None:
    """Returns the first and the last token of an answer in a window; None if the window does not hold all of it.

    The first token is the last one that begins at or before the answer's first character, the last token the first one
    that ends at or after its last character.

    Args:
      chars: integers (tokens, 2), as in `Spans`, of the window's tokens.
      answer: the text and the position of its first character.
    """
    text, start = answer
    stop = start + len(text)
    tokens = np.flatnonzero(chars[:, 0] >= 0)
    if not len(tokens) or chars[tokens[0], 0] > start or chars[tokens[-1], 1] < stop:
        return None
    first = np.searchsorted(chars[tokens, 0], start, side="right") - 1
    last = np.searchsorted(chars[tokens, 1], stop, side="left")
    return int(tokens[first]), int(tokens[last])


def span_labels(
    offsets: np.ndarray, windows: np.ndarray, chars: np.ndarray, answers: Sequence[Answers]
) -> tuple[np.ndarray, int]:
    """Returns the labels of all tokens, and how many questions have an answer that no window holds.

    The first answer of a question is learned. In a window that does not hold it, or of a question without an answer,
    the label is the first token ([CLS]), as in Devlin et al. 2019, section 4.3.

    Args:
      offsets: int64 (examples + 1,), where each window's tokens begin.
      windows: int64 (questions + 1,), the first window of each question.
      chars: as in `Spans`.
      answers: the answers of each question.

    Returns:
      int8 (tokens, 2): 1 in column 0 for the first token of a window's answer, and in column 1 for its last token; and
      the number of questions.
    """
    labels, unreachable = np.zeros((int(offsets[-1]), 2), np.int8), 0
    for question, known in enumerate(answers):
        held = False
        for window in range(windows[question], windows[question + 1]):
            start, stop = offsets[window], offsets[window + 1]
            found = locate(chars[start:stop], known[0]) if known else None
            held |= found is not None
            first, last = found or (0, 0)
            labels[start + first, 0] = labels[start + last, 1] = 1
        unreachable += bool(known) and not held
    return labels, unreachable
