"""The one rule for labels and the one for texts: what a column holds as names, numbers and strings.

Labels. None, NaN and strings of spaces are missing, and refused with their row; a row of classification whose label is
-100, as Hugging Face's data sets write it, has no label and is left out; a word whose tag is -100 has none, and is left
out of loss and metrics. Spaces around a label are stripped. A whole
number is written as such, so that 1, 1.0 and "1" are one class; True and False are classes of these names. Labels that
would be two classes and are one value (`True` and `1`, `1.0` and `1` as strings, one string in two forms of Unicode)
are refused with their counts. A list or an object is no label.

Texts. A text is a string that holds more than spaces. Numbers, truth values, lists and objects are none and are refused
with their row, for how they would be written as texts is the file's to say.
"""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from tlx.data.sources import Table
from tlx.errors import TlxError, listed

OUTSIDE = "O"  # the tag of a word that belongs to nothing (Ramshaw & Marcus 1995)
NO_LABEL = "-100"


def name_of(value: Any) -> str:
    """A label's name; empty where it is missing.

    Raises:
      ValueError: a list, an object or infinity is no label.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, float) and math.isfinite(value):
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, int):  # True and False too
        return str(value)
    raise ValueError


def classes(column: Iterable[Any], where: str = "the labels") -> tuple[str, ...]:
    """The distinct labels, whole numbers in their order, others in the alphabet's.

    Raises:
      TlxError: two of them are one value, written in two ways. where: for this message.
    """
    counts = Counter(name_of(label) for label in column)
    _refuse_alike(counts, where)
    if all(re.fullmatch(r"-?[0-9]{1,1000}", name) for name in counts):
        return tuple(sorted(counts, key=lambda name: (int(name), name)))
    return tuple(sorted(counts))


def _refuse_alike(counts: Counter[str], where: str) -> None:
    first: dict[str, str] = {}
    for name in sorted(counts):
        if (other := first.setdefault(_value(name), name)) != name:
            raise TlxError(
                f"{where}: {other!r} ({counts[other]} times) and {name!r} ({counts[name]} times) are one value written"
                " in two ways; write one of them."
            )


def _value(name: str) -> str:
    """Equal for names that are one value."""
    name = unicodedata.normalize("NFC", name)
    if name.lower() in ("true", "false"):
        return "1" if name.lower() == "true" else "0"
    return re.sub(r"\.0+$", "", name) if re.fullmatch(r"-?(0|[1-9][0-9]*)(\.0+)?", name) else name


def names(table: Table, column: str) -> list[str]:
    """The label of each row by name, none of them missing."""
    return _names(table, column, "label")


def _names(table: Table, column: str, what: str) -> list[str]:
    values = enumerate(table.column(column))
    return [_named(value, table.place(row), f"the {what} in {column!r}") for row, value in values]


def _named(value: Any, place: str, what: str) -> str:
    try:
        name = name_of(value)
    except ValueError:
        raise TlxError(f"{place}: {what} is {value!r:.80}; expected a string or a number.") from None
    if not name:
        raise TlxError(f"{place}: {what} is missing; drop the row or fill it.")
    return name


def groups(table: Table, column: str) -> list[str]:
    """The group of each row by name; values that would be one label written in two ways, as "1" and "1.0", are one
    group."""
    found = _names(table, column, "group")
    first: dict[str, str] = {}
    for name in sorted(set(found)):
        first.setdefault(_value(name), name)
    return [first[_value(name)] for name in found]


def labelled(table: Table, column: str) -> np.ndarray:
    """int64, ascending: the rows whose label is another than -100."""
    return np.array([row for row, value in enumerate(table.column(column)) if not _is_no_label(value)], np.int64)


def _is_no_label(value: Any) -> bool:
    try:
        return name_of(value) == NO_LABEL
    except ValueError:
        return False


def stripped(table: Table, column: str) -> int:
    """How many labels of a column, or elements of its lists, had spaces around them."""
    values = table.columns.get(column, ())
    each = (element for value in values for element in (value if isinstance(value, list) else [value]))
    return sum(isinstance(value, str) and value != value.strip() for value in each)


def class_indices(table: Table, column: str, known: Sequence[str]) -> np.ndarray:
    """int32 (n,): the position of each row's label in `known`, the training set's."""
    positions = {name: i for i, name in enumerate(known)}
    labels = names(table, column)
    for row, label in enumerate(labels):
        if label not in positions:
            raise TlxError(f"{table.place(row)}: the label {label!r} is none of the training set's {listed(known)}.")
    return np.array([positions[label] for label in labels], np.int32)


def targets(table: Table, column: str) -> np.ndarray:
    """float32 (n, outputs): real-valued targets. column: one name, or several joined by commas."""
    return np.column_stack([_finite(table, name) for name in _split_columns(table, column) or (column,)])


def _finite(table: Table, column: str) -> np.ndarray:
    """float32 (n, …)"""
    exact = _numbers(table, column)
    with np.errstate(over="ignore"):
        values = exact.astype(np.float32)
    if len(bad := np.argwhere(~np.isfinite(values))):
        value, place = exact[tuple(bad[0])], table.place(int(bad[0][0]))
        if np.isfinite(value):
            most = np.finfo(np.float32).max
            raise TlxError(
                f"{place}: the target {value:g} in {column!r} is beyond ±{most:.3g}, float32's largest number."
            )
        raise TlxError(f"{place}: the target in {column!r} is not a finite number.")
    return values


def _numbers(table: Table, column: str) -> np.ndarray:
    """float64 (n, …), NaN where a value is missing."""
    found: list[Any] = []
    for row, value in enumerate(table.column(column)):
        try:
            if isinstance(value, str) and "_" in value:  # Python's own way of writing a number
                raise ValueError
            missing = value is None or (isinstance(value, str) and not value)
            found.append(np.asarray(np.nan if missing else value, np.float64))
        except (TypeError, ValueError, OverflowError):
            raise TlxError(f"{table.place(row)}: the column {column!r} is not all numbers ({value!r:.80}).") from None
        if found[-1].ndim > 1 or found[-1].shape != found[0].shape:
            raise TlxError(f"{table.place(row)}: the target in {column!r} has another shape than in the first row.")
    return np.array(found)


def _split_columns(table: Table, column: str) -> tuple[str, ...]:
    """The columns that `column` joins by commas; none if it names one column."""
    if column in table.columns or "," not in column:
        return ()
    return tuple(name.strip() for name in column.split(","))


def label_names(table: Table, column: str, separator: str = "|") -> tuple[str, ...]:
    """The labels of a multi-label table: the columns that `column` joins by commas, or the distinct names in one."""
    where = f"{table.name}: the labels in {column!r}"
    return _split_columns(table, column) or classes(
        (name for row in _sets(table, column, separator) for name in row), where
    )


def multilabel(table: Table, column: str, names: Sequence[str], separator: str = "|") -> np.ndarray:
    """int32 (n, labels): 1 where a row has the label, else 0.

    Args:
      column: several columns of 0 and 1 joined by commas; or one that holds lists of names, or names joined by the
        separator (an empty string: no label).
      names: the labels in order, as `label_names` found them in the training set.
    """
    if columns := _split_columns(table, column):
        return np.column_stack([_zeros_and_ones(table, name) for name in columns])
    positions = {name: i for i, name in enumerate(names)}
    predictions = np.zeros((len(table), len(names)), np.int32)
    for row, found in enumerate(_sets(table, column, separator)):
        for name in found:
            if name not in positions:
                raise TlxError(f"{table.place(row)}: the label {name!r} is none of the training set's {listed(names)}.")
            predictions[row, positions[name]] = 1
    return predictions


def _sets(table: Table, column: str, separator: str) -> list[list[str]]:
    """The names of each row."""
    found = []
    for row, value in enumerate(table.column(column)):
        if isinstance(value, str):
            value = value.split(separator) if value.strip() else []
        if not isinstance(value, list):
            raise TlxError(
                f"{table.place(row)}: the labels in {column!r} are {value!r}; expected a list of names, or"
                f" names joined by {separator!r}."
            )
        try:
            given = [name_of(name) for name in value]
        except ValueError:
            given = [""]
        if "" in given:
            raise TlxError(f"{table.place(row)}: one of the labels in {column!r}, {value!r:.80}, has no name.")
        found.append(given)
    return found


def _zeros_and_ones(table: Table, column: str) -> np.ndarray:
    """int32 (n,)"""
    values = [str(value).strip() for value in table.column(column)]
    known = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "False": 0, "True": 1}
    for row, value in enumerate(values):
        if value not in known:
            raise TlxError(f"{table.place(row)}: {column!r} is {value!r}; expected 0 or 1.")
    return np.array([known[value] for value in values], np.int32)


def texts(table: Table, column: str) -> list[str]:
    """A column of texts, none of them empty."""
    return [text_of(value, table.place(row), column) for row, value in enumerate(table.column(column))]


def text_of(value: Any, place: str, column: str) -> str:
    """One value of a column of texts. place: of the row, for messages.

    Raises:
      TlxError: it is missing, empty, or no string; or it holds half of a surrogate pair.
    """
    if (
        value is None
        or (isinstance(value, (float, np.floating)) and value != value)
        or (isinstance(value, str) and not value.strip())
    ):
        raise TlxError(f"{place}: the text in {column!r} is empty; drop the row or fill it.")
    if not isinstance(value, str):
        raise TlxError(f"{place}: the text in {column!r} is {value!r:.80}; a text is a string, so put it in quotes.")
    if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise TlxError(f"{place}: the text in {column!r} holds half of a surrogate pair (\\ud800 to \\udfff), no text.")
    return value


def token_lists(table: Table, column: str) -> list[list[str]]:
    """The words of each row, at least one and none of them blank."""
    return [words_of(value, table.place(row), column) for row, value in enumerate(table.column(column))]


def words_of(value: Any, place: str, column: str) -> list[str]:
    """One value of a column of lists of words; each word is a text as `text_of` says."""
    for position, word in enumerate(_list(value, place, column, "words"), 1):
        if word is None or (isinstance(word, str) and not word.strip()):
            raise TlxError(f"{place}: word {position} in {column!r} is empty; drop it with its tag.")
        if not isinstance(word, str):
            raise TlxError(f"{place}: the list in {column!r} holds more than words: {value!r:.80}.")
        text_of(word, place, column)
    if not value:
        raise TlxError(f"{place}: the sentence in {column!r} has no words; drop the row.")
    return list(value)


def _list(value: Any, place: str, column: str, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise TlxError(
            f"{place}: {column!r} is {str(value)[:40]!r}; expected a list of {what}, as conll: files and lists in"
            " jsonl: files give."
        )
    return value


def tags(table: Table, column: str) -> list[list[str]]:
    """The tags of each row by name, `NO_LABEL` of a word that has none.

    Raises:
      TlxError: no word has a tag.
    """
    found = []
    for row, value in enumerate(table.column(column)):
        place = table.place(row)
        given = _list(value, place, column, "tags")
        if any(tag is None or isinstance(tag, (list, dict)) for tag in given):
            raise TlxError(f"{place}: the list in {column!r} holds more than tags: {value!r:.80}.")
        found.append([_named(tag, place, f"tag {number} in {column!r}") for number, tag in enumerate(given, 1)])
    if found and all(name == NO_LABEL for row in found for name in row):
        raise TlxError(f"{table.name}: no word has a tag; all in {column!r} are {NO_LABEL}.")
    return found


def tag_names(table: Table, column: str) -> tuple[str, ...]:
    """The distinct tags in the alphabet's order, `O` before them where it occurs."""
    given = (name for row in tags(table, column) for name in row if name != NO_LABEL)
    found = classes(given, f"{table.name}: the tags in {column!r}")
    return tuple(sorted(found, key=lambda name: (name != OUTSIDE, name)))


def tag_indices(table: Table, tokens: str, column: str, known: Sequence[str]) -> list[np.ndarray]:
    """int32 (words,) for each row: the position of each word's tag in `known`, -1 where it has none (-100).

    Args:
      tokens, column: the columns of words and of tags, as many tags as words in each row.
      known: the tags in order, as `tag_names` found them in the training set.
    """
    positions = {NO_LABEL: -1, **{name: i for i, name in enumerate(known)}}
    found = []
    for row, (value, given) in enumerate(zip(table.column(tokens), tags(table, column), strict=True)):
        words = _list(value, table.place(row), tokens, "words")
        if any(isinstance(word, (list, dict)) for word in words):
            raise TlxError(f"{table.place(row)}: the list in {tokens!r} holds more than words: {value!r:.80}.")
        if len(words) != len(given):
            raise TlxError(
                f"{table.place(row)}: {len(given)} tags in {column!r} for {len(words)} words in {tokens!r};"
                " expected one for each."
            )
        for name in given:
            if name not in positions:
                raise TlxError(f"{table.place(row)}: the tag {name!r} is none of the training set's {listed(known)}.")
        found.append(np.array([positions[name] for name in given], np.int32))
    return found
