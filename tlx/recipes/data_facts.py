"""Facts about a run's data for its summary and for printed lines: sizes, digests, labels, tags, words."""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from tlx.data import labels
from tlx.data.examples import ExampleSet
from tlx.data.sources import Table
from tlx.data.spans import Spans
from tlx.data.tags import tag_column
from tlx.data.words import Words
from tlx.errors import listed
from tlx.evaluation.entities import near_scheme, scheme_of
from tlx.modalities.api import Columns, Modality
from tlx.models.heads import Head
from tlx.recipes.splits import TARGET

Tell = Callable[[str], None]  # is called with a line for the user


def data_facts(
    config: ConfigDict,
    tables: Mapping[str, Table],
    examples: Mapping[str, ExampleSet],
    inputs: Modality,
    head: Head,
    tell: Tell,
) -> dict[str, Any]:
    """Returns the facts for the run's summary, and tells those that a user should notice.

    Args:
      config: the run's config.
      tables: the table of each split.
      examples: the encoded examples of each split.
      inputs: the modality, which encoded them.
      head: the head.
      tell: is called with each line that a user should see.
    """
    facts = _split_facts(config.data, tables, examples, inputs, tell) | _label_facts(config, tables, tell)
    if config.data.get("exclude"):
        facts["excluded"] = tables["train"].excluded
        name, sets = tables["train"].name, listed([spec for spec, _ in config.data.exclude], most=99)
        tell(f"{name}: {facts['excluded']} rows have a text that is also in {sets}, and are left out.")
    if head.kind == "tagging":
        facts |= _tagging_facts(tables["train"], config.data.label, head, examples, tell)
    if head.kind == "question_answering":
        facts["questions"] = {part: count_questions(each.spans) for part, each in examples.items() if each.spans}
        for part, counts in facts["questions"].items():
            tell(f"{part}: {format_question_counts(counts)}.")
    return facts


def _split_facts(
    data: ConfigDict, tables: Mapping[str, Table], examples: Mapping[str, ExampleSet], inputs: Modality, tell: Tell
) -> dict[str, Any]:
    """Counts the examples of each split, those that also occur in train, groups and truncated texts."""
    grouped = {part: table for part, table in tables.items() if data.group in table.columns}
    groups = {part: len(set(labels.groups(table, data.group))) for part, table in grouped.items()}
    columns = Columns.of(inputs, data)
    keys = {part: inputs.keys(columns, table) for part, table in tables.items()}
    truncated = {part: inputs.count_truncated(columns, table, examples[part]) for part, table in tables.items()}
    for part, count in truncated.items():
        if count:
            texts = "pairs of texts" if data.pair else inputs.plural
            tell(
                f"{part}: {count} of {len(tables[part])} {texts} are longer than max_length {data.max_length} and "
                "are truncated."
            )
    train_keys = set(keys["train"])
    return {
        "examples": {part: len(table) for part, table in tables.items()},
        "also_in_train": {part: sum(key in train_keys for key in keys[part]) for part in keys if part != "train"},
        **({"sources": list(tables["train"].parts)} if tables["train"].parts else {}),
        **({"groups": groups} if groups else {}),
        **({"texts_cut": truncated} if any(truncated.values()) else {}),
        "sha256": {part: digest(part_examples) for part, part_examples in examples.items()},
    }


def _label_facts(config: ConfigDict, tables: Mapping[str, Table], tell: Tell) -> dict[str, Any]:
    """Counts and tells how many labels were stripped and how many rows were left out; {} if there are none."""
    label = config.data.label
    tables = {part: table for part, table in tables.items() if part != TARGET}
    stripped = {part: labels.count_stripped(table, label) for part, table in tables.items()}
    by_part = config.data.get("unlabelled", "refuse") != "refuse"  # else a file's rows are left out before its split
    left_out = {part if by_part else table.name: table.left_out for part, table in tables.items() if table.left_out}
    if config.head.kind == "regression":
        stripped = {}
    for part, count in stripped.items():
        if count:
            tell(f"{part}: {count} labels in {label!r} had spaces around them, which were stripped.")
    for name, count in left_out.items():
        which = f"in {label!r}" if by_part else f"({labels.NO_LABEL} in {label!r})"
        tell(f"{name}: {count} rows have no label {which} and are left out.")
    return {
        **({"labels_stripped": stripped} if any(stripped.values()) else {}),
        **({"left_out_without_label": left_out} if left_out else {}),
    }


def _tagging_facts(
    train: Table, column: str, head: Head, examples: Mapping[str, ExampleSet], tell: Tell
) -> dict[str, Any]:
    """Finds and tells the scheme of the training tags and the word counts of each split."""
    scheme = scheme_of([tag for tag in row if tag != labels.NO_LABEL] for row in tag_column(train, column))
    if scheme is None:
        what = f"{len(head.labels)} classes of tokens, no entity scheme; measured by accuracy and macro-F1"
    else:
        types = sorted({name.partition("-")[2] for name in head.labels} - {""})
        what = f"{scheme}, entities{f' of type {listed(types)}' if types else ''}; measured by entity F1"
    tell(f"tags: {what}.")
    if scheme is None and (why := near_scheme(head.labels)):
        tell(f"tags: {why}.")
    words = {part: count_words(part_examples.words) for part, part_examples in examples.items()}
    for part, counts in words.items():
        if any(count for name, count in counts.items() if name != "words"):
            tell(f"{part}: {format_word_counts(counts)}.")
    return {"tags": scheme or "classes of tokens", "words": words}


def count_words(words: Words | None) -> dict[str, int]:
    """Counts the words of a set.

    Args:
      words: the words of a tagging set; None for other sets.

    Returns:
      `words`, `windowed_sentences` (sentences longer than max_length) and `unpredictable_words`. If there are words
      without a label, also `words_without_label`, and `sentences_without_label` if there are sentences without any.
      {} if `words` is None.
    """
    if words is None:
        return {}
    unlabelled_words = int((~words.labelled).sum())
    labelled_until = np.concatenate([[0], np.cumsum(words.labelled)])[words.offsets]
    unlabelled_sentences = int((np.diff(labelled_until) == 0).sum())
    return {
        "words": len(words.label),
        "windowed_sentences": words.windowed,
        "unpredictable_words": int((~words.predictable).sum()),
        **({"words_without_label": unlabelled_words} if unlabelled_words else {}),
        **({"sentences_without_label": unlabelled_sentences} if unlabelled_sentences else {}),
    }


def format_word_counts(counts: dict[str, int]) -> str:
    """Formats the counts of `count_words` as one line of text."""
    text = f"{counts['words']} words"
    if counts["windowed_sentences"]:
        text += f", {counts['windowed_sentences']} sentences longer than max_length and read in overlapping windows"
    if counts["unpredictable_words"]:
        text += (
            f", {counts['unpredictable_words']} words that cannot be predicted and count as wrong (the tokenizer drops "
            "them, or their tokens alone exceed max_length)"
        )
    if unlabelled_words := counts.get("words_without_label"):
        text += (
            f", {unlabelled_words} words that have no label ({labels.NO_LABEL}) and are left out of loss and metrics"
        )
        if unlabelled_sentences := counts.get("sentences_without_label"):
            text += f"; in {unlabelled_sentences} sentences, no word has a label"
    return text


def count_questions(spans: Spans) -> dict[str, int]:
    """Counts the questions of a set.

    Returns:
      `questions`, `windows` (the examples that they became), `windowed_questions` (those with several windows),
      `without_answer` and `in_no_window` (those whose first answer no window holds as a whole).
    """
    sizes = np.diff(spans.windows)
    return {
        "questions": len(spans),
        "windows": int(sizes.sum()),
        "windowed_questions": int((sizes > 1).sum()),
        "without_answer": sum(not known for known in spans.answers or ()),
        "in_no_window": spans.unreachable,
    }


def format_question_counts(counts: dict[str, int]) -> str:
    """Formats the counts of `count_questions` as one line of text."""
    text = f"{counts['questions']} questions in {counts['windows']} windows"
    if counts["windowed_questions"]:
        text += f", {counts['windowed_questions']} of them with a context of several overlapping windows"
    if counts["without_answer"]:
        text += f", {counts['without_answer']} without an answer"
    if counts["in_no_window"]:
        text += (
            f", {counts['in_no_window']} whose answer no window holds as a whole, so that it is not learned (a larger "
            "data.stride makes windows overlap more)"
        )
    return text


def digest(examples: ExampleSet) -> str:
    """Returns a digest of a split's content, such as tokens, labels and row indices."""
    content = hashlib.sha256()
    for piece in examples.content():
        content.update(piece)
    return content.hexdigest()[:16]
