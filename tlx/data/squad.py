"""Reads question answering files in the form of SQuAD 1.1 and 2.0 (Rajpurkar et al. 2016, 2018): one JSON object."""

from collections.abc import Iterator, Mapping
from typing import Any

from tlx.data.answers import check_answers
from tlx.data.tabular import Rows
from tlx.errors import TlxError

KIND = "file in the form of SQuAD"  # for messages
MOST = 2**28  # the most bytes of a file; SQuAD 2.0's training set has 42 million


def squad_rows(name: str, content: Mapping[str, Any]) -> Rows:
    """Yields a row for each question: `id`, `question`, `context` and, if the file has them, `answers`.

    `answers` is a dict of two lists, `text` and `answer_start`, as in Hugging Face's data sets; both are empty for a
    question that is marked `is_impossible`.

    Args:
      name: the name of the file, for messages.
      content: the JSON object, `{"data": [{"paragraphs": [{"context", "qas": [{"id", "question", "answers"}]}]}]}`.

    Raises:
      TlxError: a key is missing or has a value of another type; a text is empty; an id is there twice; an answer is not
        in the context at its place; only some questions have `answers`; `is_impossible` contradicts them.
    """
    seen: set[str] = set()
    answered: bool | None = None
    for place, context, given in _questions(name, content):
        number = _text(place, given, "id")
        if number in seen:
            raise TlxError(f"{place}: the id {number!r:.80} is there twice; every question has an id of its own.")
        seen.add(number)
        place = f"{name}, question {number:.80}"
        row: dict[str, Any] = {"id": number, "question": _text(place, given, "question"), "context": context}
        if answered is None:
            answered = "answers" in given
        if answered != ("answers" in given):
            raise TlxError(f"{place} has {'no' if answered else 'an'} 'answers', unlike the questions before it.")
        yield place, {**row, **({"answers": _answers(place, given, context)} if answered else {})}


def _questions(name: str, content: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Yields the place, the context and the object of each question."""
    for a, article in enumerate(_list(name, content, "data")):
        place = f"{name}, data[{a}]"
        for p, paragraph in enumerate(_list(place, article, "paragraphs")):
            of_paragraph = f"{place}.paragraphs[{p}]"
            context = _text(of_paragraph, paragraph, "context")
            for q, given in enumerate(_list(of_paragraph, paragraph, "qas")):
                yield f"{of_paragraph}.qas[{q}]", context, given


def _answers(place: str, given: Mapping[str, Any], context: str) -> dict[str, list[Any]]:
    answers = _list(place, given, "answers")
    texts, starts = ([_value(place, answer, key) for answer in answers] for key in ("text", "answer_start"))
    row = {"text": texts, "answer_start": starts}
    check_answers(row, context, place, "answers")
    impossible = given.get("is_impossible")
    if impossible not in (None, True, False):
        raise TlxError(f"{place}: 'is_impossible' is {impossible!r:.80}; it is true or false.")
    if impossible is not None and impossible == bool(texts):
        raise TlxError(f"{place}: 'is_impossible' is {str(impossible).lower()}, and it has {len(texts)} answers.")
    return row


def _value(place: str, given: Any, key: str) -> Any:
    if not isinstance(given, Mapping):
        raise TlxError(f"{place}: expected an object with {key!r}, found {given!r:.80}.")
    if key not in given:
        raise TlxError(f"{place}: the key {key!r} is missing.")
    return given[key]


def _text(place: str, given: Any, key: str) -> str:
    value = _value(place, given, key)
    if not isinstance(value, str) or not value.strip():
        raise TlxError(f"{place}: {key!r} is {value!r:.80}; expected a text that is not empty.")
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        raise TlxError(f"{place}: {key!r} holds half of a surrogate pair (\\ud800 to \\udfff), no text.")
    return value


def _list(place: str, given: Any, key: str) -> list[Any]:
    value = _value(place, given, key)
    if not isinstance(value, list):
        raise TlxError(f"{place}: {key!r} is {value!r:.80}; expected a list.")
    return value
