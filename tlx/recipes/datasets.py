"""The data of a run: reads and splits tables, makes the head from the labels and encodes the examples."""

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from tlx.data import labels
from tlx.data.examples import ExampleSet
from tlx.data.sources import Table, load, splits_of
from tlx.data.splits import split_by_group, subsample_per_class
from tlx.data.words import Words
from tlx.errors import TlxError, listed
from tlx.evaluation.entities import near_scheme, scheme_of
from tlx.modalities.api import Columns, Modality
from tlx.models.heads import Head

TRAINABLE_KINDS = ("classification", "multilabel", "regression", "tagging")  # heads that can be trained on a file


@dataclasses.dataclass(frozen=True)
class Datasets:
    """The data of a task.

    Attributes:
      examples: examples by split: `train`, `validation` and, if there is one, `test`.
      tables: the tables that the examples were made from, by split.
      head: the head that fits the labels.
      facts: facts for the summary: sizes, how many examples of the other splits are also in train, digests.
    """

    examples: dict[str, ExampleSet]
    tables: dict[str, Table]
    head: Head
    facts: dict[str, Any]


def load_labelled(source: str | Table, label: str, kind: str) -> Table:
    """Returns a table. For classification, rows without a label are left out (see `data.labels`).

    Args:
      source: a data spec such as `csv:FILE`, or a table.
      label: the column of the labels.
      kind: the kind of the head.

    Raises:
      TlxError: if no row has a label.
    """
    table = load(source) if isinstance(source, str) else source
    if kind != "classification":
        return table
    rows = labels.labelled(table, label)
    if not len(rows):
        raise TlxError(f"{table.name}: no row has a label; all in {label!r} are {labels.NO_LABEL}.")
    if len(rows) == len(table):
        return table
    return dataclasses.replace(table.rows(rows), left_out=len(table) - len(rows))


def numbered(table: Table) -> tuple[Table, np.ndarray]:
    """Returns a table, and int64 (n,): for each row, the index of that row in its source."""
    return table, np.arange(len(table)) if table.numbers is None else table.numbers


def with_splits(config: ConfigDict) -> ConfigDict:
    """Returns the config with the splits of `data.train` if that is a folder of splits.

    The folder's `train` is used, and its `validation` and `test` unless the config names other sets. A printed line
    says which splits are used.

    Args:
      config: the run's config.

    Raises:
      TlxError: if the folder has splits but no `train`.
    """
    root = config.data.train
    splits = splits_of(root)
    if not splits:
        return config
    if "train" not in splits:
        raise TlxError(
            f"config.data.train is {root}, which holds {listed(splits)} and no train; name what to train on."
        )
    config = config.copy_and_resolve_references()
    parts = {part: spec for part, spec in splits.items() if part == "train" or not config.data[part]}
    for part, spec in parts.items():
        config.data[part] = spec
    from_train = [
        part for part in ("validation", "test") if not config.data[part] and config.data[f"{part}_fraction"] > 0
    ]
    rest = f"; {' and '.join(from_train)} is split from train" if from_train else ""
    print(f"data: {root} holds folders of splits; the run uses {listed(parts.values())}{rest}.", flush=True)
    return config


def load_tables(
    config: ConfigDict, inputs: Modality, kind: str, in_memory: Mapping[str, Table] | None = None
) -> dict[str, tuple[Table, np.ndarray]]:
    """Reads the splits.

    Args:
      config: `config.data`.
      inputs: the modality, which decides which rows have equal inputs; these stay in the same split.
      kind: the kind of the head.
      in_memory: tables by split that replace files of the config.

    Returns:
      For each split, its table, and int64 (n,): for each row, the index of that row in its source.

    Raises:
      TlxError: if train or validation is missing, or a split is given twice.
    """
    in_memory = in_memory or {}
    if unknown := sorted(in_memory.keys() - {"train", "validation", "test"}):
        raise TlxError(f"tables holds {listed(unknown)}; the splits are 'train', 'validation' and 'test'.")
    if both := sorted(part for part in in_memory if config[part]):
        raise TlxError(f"tables and config.data both give {listed(both)}; give each split once.")
    sources: dict[str, str | Table] = {
        part: in_memory.get(part, config[part]) for part in ("train", "validation", "test")
    }
    if sources["train"] == "":
        raise TlxError("config.data.train names no data; say for example --config.data.train=csv:train.csv.")
    train = load_labelled(sources["train"], config.label, kind)
    fractions = {
        part: float(config[f"{part}_fraction"])
        for part in ("test", "validation")
        if sources[part] == "" and config[f"{part}_fraction"] > 0
    }
    columns = Columns.of(inputs, config)
    keys = labels.groups(train, config.group) if config.group else inputs.group_keys(columns, train)
    rows = split_by_group(keys, fractions, config.split_seed)
    tables = {part: numbered(train.rows(chosen)) for part, chosen in rows.items()}
    if config.get("per_class"):
        table, _ = tables["train"]
        sampled = subsample_per_class(labels.names(table, config.label), config.per_class, config.split_seed)
        tables["train"] = numbered(table.rows(sampled))
    for part in ("validation", "test"):
        if sources[part] != "":
            tables[part] = numbered(load_labelled(sources[part], config.label, kind))
    if "validation" not in tables:
        raise TlxError("there is no validation data; give config.data.validation or a validation_fraction above 0.")
    return tables


def make_head(config: ConfigDict, train: Table) -> Head:
    """Makes the head that fits the labels of the training split.

    Args:
      config: the run's config.
      train: the table of the training split.

    Raises:
      TlxError: if the kind of head is unknown, or the labels have a single class or a constant target.
    """
    kind, pooling, label = config.head.kind, config.head.pooling, config.data.label
    if kind == "regression":
        values = labels.targets(train, label).astype(np.float64)
        if not config.head.standardise:
            return Head(kind, values.shape[1], pooling)
        spread = values.std(axis=0)
        if not (spread > 0).all():
            raise TlxError(
                f"{train.name}: the target {label!r} is constant over the training split, so no model can be trained."
            )
        shift, scale = (tuple(x.tolist()) for x in (values.mean(axis=0), spread))
        return Head(kind, values.shape[1], pooling, shift=shift, scale=scale)
    if kind == "multilabel":
        names = labels.label_names(train, label, config.data.label_separator)
    elif kind == "tagging":
        names = labels.tag_names(train, label)
    elif kind == "classification":
        names = labels.classes(labels.names(train, label), f"{train.name}: the labels in {label!r}")
    else:
        raise TlxError(f"config.head.kind is {kind!r}; it is one of {listed(TRAINABLE_KINDS)}.")
    if len(names) < 2 and kind != "multilabel":
        raise TlxError(f"{train.name}: the column {label!r} holds one class only, {names[0]!r}.")
    return Head(kind, len(names), pooling, labels=names)


def load_datasets(config: ConfigDict, inputs: Modality, in_memory: Mapping[str, Table] | None = None) -> Datasets:
    """Reads and encodes the data of `config.data` and `config.head`.

    Args:
      config: the run's config.
      inputs: the modality, which encodes the examples.
      in_memory: tables by split that replace files of the config.

    Raises:
      TlxError: if the data is invalid.
    """
    tables = load_tables(config.data, inputs, config.head.kind, in_memory)
    head, columns = make_head(config, tables["train"][0]), Columns.of(inputs, config.data)
    examples = {
        part: inputs.encode(columns, head, table, rows.astype(np.int64)) for part, (table, rows) in tables.items()
    }
    facts = _facts(config.data, tables, examples, inputs) | _label_facts(config, tables)
    if head.kind == "tagging":
        facts |= _tagging_facts(tables["train"][0], config.data.label, head, examples)
    return Datasets(examples, {part: table for part, (table, _) in tables.items()}, head, facts)


def _label_facts(config: ConfigDict, tables: dict[str, tuple[Table, np.ndarray]]) -> dict[str, Any]:
    """Counts and prints how many labels were stripped and how many rows were left out; {} if there are none."""
    label = config.data.label
    stripped = {part: labels.stripped(table, label) for part, (table, _) in tables.items()}
    left_out = {table.name: table.left_out for table, _ in tables.values() if table.left_out}
    if config.head.kind == "regression":
        stripped = {}
    for part, count in stripped.items():
        if count:
            print(f"{part}: {count} labels in {label!r} had spaces around them, which were stripped.", flush=True)
    for name, count in left_out.items():
        print(f"{name}: {count} rows have no label ({labels.NO_LABEL} in {label!r}) and are left out.", flush=True)
    return {
        **({"labels_stripped": stripped} if any(stripped.values()) else {}),
        **({"left_out_without_label": left_out} if left_out else {}),
    }


def _facts(
    data: ConfigDict, tables: dict[str, tuple[Table, np.ndarray]], examples: dict[str, ExampleSet], inputs: Modality
) -> dict[str, Any]:
    grouped = {part: table for part, (table, _) in tables.items() if data.group in table.columns}
    groups = {part: len(set(labels.groups(table, data.group))) for part, table in grouped.items()}
    columns = Columns.of(inputs, data)
    keys = {part: inputs.keys(columns, table) for part, (table, _) in tables.items()}
    truncated = {part: inputs.count_truncated(columns, table, examples[part]) for part, (table, _) in tables.items()}
    for part, count in truncated.items():
        if count:
            texts = "pairs of texts" if data.pair else inputs.plural
            print(
                f"{part}: {count} of {len(tables[part][0])} {texts} are longer than max_length {data.max_length} and "
                "are truncated.",
                flush=True,
            )
    train_keys = set(keys["train"])
    return {
        "examples": {part: len(table) for part, (table, _) in tables.items()},
        "also_in_train": {part: sum(key in train_keys for key in keys[part]) for part in keys if part != "train"},
        **({"groups": groups} if groups else {}),
        **({"texts_cut": truncated} if any(truncated.values()) else {}),
        "sha256": {part: digest(part_examples) for part, part_examples in examples.items()},
    }


def _tagging_facts(train: Table, column: str, head: Head, examples: dict[str, ExampleSet]) -> dict[str, Any]:
    """Finds and prints the scheme of the training tags and the word counts of each split."""
    scheme = scheme_of([tag for tag in row if tag != labels.NO_LABEL] for row in labels.tags(train, column))
    if scheme is None:
        what = f"{len(head.labels)} classes of tokens, no entity scheme; measured by accuracy and macro-F1"
    else:
        types = sorted({name.partition("-")[2] for name in head.labels} - {""})
        what = f"{scheme}, entities{f' of type {listed(types)}' if types else ''}; measured by entity F1"
    print(f"tags: {what}.", flush=True)
    if scheme is None and (why := near_scheme(head.labels)):
        print(f"tags: {why}.", flush=True)
    words = {part: word_facts(part_examples.words) for part, part_examples in examples.items()}
    for part, counts in words.items():
        if any(count for name, count in counts.items() if name != "words"):
            print(f"{part}: {words_in_words(counts)}.", flush=True)
    return {"tags": scheme or "classes of tokens", "words": words}


def word_facts(words: Words | None) -> dict[str, int]:
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


def words_in_words(facts: dict[str, int]) -> str:
    """Formats the counts of `word_facts` as one line of text."""
    text = f"{facts['words']} words"
    if facts["windowed_sentences"]:
        text += f", {facts['windowed_sentences']} sentences longer than max_length and read in overlapping windows"
    if facts["unpredictable_words"]:
        text += (
            f", {facts['unpredictable_words']} words that cannot be predicted and count as wrong (the tokenizer leaves "
            "nothing of them, or their tokens alone exceed max_length)"
        )
    if unlabelled_words := facts.get("words_without_label"):
        text += (
            f", {unlabelled_words} words that have no label ({labels.NO_LABEL}) and are left out of loss and metrics"
        )
        if unlabelled_sentences := facts.get("sentences_without_label"):
            text += f"; in {unlabelled_sentences} sentences, no word has a label"
    return text


def digest(examples: ExampleSet) -> str:
    """Returns a digest of a split's content, such as tokens, labels and row indices."""
    content = hashlib.sha256()
    for piece in examples.content():
        content.update(piece)
    return content.hexdigest()[:16]
