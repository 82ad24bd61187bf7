"""The answers of questions about a text: strings of the text, each with the position of its first character."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tlx.errors import TlxError

Answers = tuple[tuple[str, int], ...]  # (text, first character in the context); () for a question without an answer


def check_answers(value: Any, context: str, place: str, column: str) -> Answers:
    """Checks the answers of one question and returns them.

    Args:
      value: a dict of two lists, `text` and `answer_start`, as in Hugging Face's data sets; or a list of dicts with one
        `text` and one `answer_start` each, as in SQuAD's files.
      context: the text in which the answers are.
      place: the file and the row, for messages.
      column: the column's name, for messages.

    Raises:
      TlxError: the value has another form, an answer is empty, or the context does not have it at its place.
    """
    if isinstance(value, Mapping):
        columns = [_plain(value.get(key)) for key in ("text", "answer_start")]
        if not all(isinstance(each, list) for each in columns) or len(columns[0]) != len(columns[1]):
            raise TlxError(f"{place}: {column!r} is {value!r:.80}; expected lists 'text' and 'answer_start', as long.")
        pairs = list(zip(*columns, strict=True))
    elif isinstance(value, list) and all(isinstance(each, Mapping) for each in value):
        pairs = [(each.get("text"), each.get("answer_start")) for each in value]
    else:
        raise TlxError(f"{place}: {column!r} is {value!r:.80}; expected answers with 'text' and 'answer_start'.")
    return tuple(_check(text, start, context, place) for text, start in pairs)


def _check(text: Any, start: Any, context: str, place: str) -> tuple[str, int]:
    if not isinstance(text, str) or not text.strip():
        raise TlxError(f"{place}: an answer is {text!r:.80}; expected a text that is not empty.")
    if isinstance(start, bool) or not isinstance(start, int | np.integer):
        raise TlxError(f"{place}: answer_start of {text!r:.80} is {start!r:.80}; expected a whole number.")
    if not 0 <= start <= len(context) - len(text):
        raise TlxError(
            f"{place}: the answer {text!r:.80} with answer_start {start} is not within the context, which has "
            f"{len(context)} characters."
        )
    if (there := context[start : start + len(text)]) != text:
        raise TlxError(
            f"{place}: the answer is {text!r:.80}, but at answer_start {start} the context has {there!r:.80}; "
            "answer_start counts characters (not bytes) from 0."
        )
    return text, int(start)


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value
