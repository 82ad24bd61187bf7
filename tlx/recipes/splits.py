"""The splits of a run's data: reads the tables of `config.data` and splits off validation and test."""

import dataclasses
import re
from collections.abc import Mapping, Sequence

import numpy as np
from ml_collections import ConfigDict

from tlx.data import labels
from tlx.data.sources import Table, joined, load, splits_of
from tlx.data.splits import split_by_group, subsample, subsample_per_class
from tlx.errors import TlxError, listed
from tlx.modalities.api import Columns, Modality

TARGET, TARGET_TEST = "target", "target_test"  # of the target domain: without labels, and the labelled test set
NO_WORD = re.compile(r"[\W_]+")  # between words
UNLABELLED = ("refuse", "leave_out")
PARTS = ("train", "validation", "test", TARGET, TARGET_TEST)  # fields of `config.data` that name a set


def load_labelled(source: str | Table, label: str, kind: str, unlabelled: str = "refuse") -> Table:
    """Reads a table and leaves out rows without a label; see `labelled`.

    Args:
      source: a data spec such as `csv:FILE`, or a table.
      label, kind, unlabelled: as in `labelled`.

    Raises:
      TlxError: if no row has a label.
    """
    return labelled(load(source) if isinstance(source, str) else source, label, kind, unlabelled)


def labelled(table: Table, label: str, kind: str, unlabelled: str = "refuse") -> Table:
    """Leaves out rows without a label: those of class -100 (see `tlx.data.labels`), and perhaps those with none at all.

    Args:
      table: the rows.
      label: the column of the labels, or several joined by commas.
      kind: the kind of the head.
      unlabelled: `config.data.unlabelled`; with `leave_out` rows with an empty label are left out too, for
        classification, regression and multilabel. In a multilabel column of names an empty text means no label of the
        classes, and null a label that is missing.

    Raises:
      TlxError: if no row has a label.
    """
    missing = {"classification": [labels.NO_LABEL]}.get(kind, [])
    if unlabelled == "leave_out" and kind in ("classification", "regression", "multilabel"):
        missing = [*missing, ""]
    if not missing:
        return table
    if kind == "multilabel" and label in table.columns:
        rows = np.flatnonzero([value is not None for value in table.column(label)])
    else:
        rows = labels.labelled_rows(table, label, missing)
    if not len(rows):
        raise TlxError(f"{table.name}: no row has a label; all in {label!r} are {' or '.join(missing) or 'empty'}.")
    if len(rows) == len(table):
        return table
    return dataclasses.replace(table.rows(rows), left_out=len(table) - len(rows))


def without_texts(table: Table, columns: Sequence[str], exclude: Sequence[Sequence[str]]) -> Table:
    """Leaves out the rows of which a text is also in another set, such as the test set of another task.

    Two texts are the same if they have the same words: case, spaces and punctuation do not matter. A list of words is
    the text with spaces between. A text without letters and digits is never left out.

    Args:
      table: the rows.
      columns: its columns of texts.
      exclude: pairs of a data spec and that set's columns of texts, joined by commas.

    Returns:
      The table; `excluded` has the number of rows that were left out.

    Raises:
      TlxError: if a set has no such column, a column holds no texts, or no row is left.
    """
    if not exclude:
        return table
    if malformed := [each for each in exclude if isinstance(each, str) or len(each) != 2]:
        raise TlxError(f"config.data.exclude has {malformed[0]!r}, expected a pair (set, columns joined by commas).")
    known: set[str] = set()
    for spec, names in exclude:
        other = load(spec)
        known.update(text for name in names.split(",") for text in _words(other, name.strip()) if text)
    leaks = np.array([[text in known for text in _words(table, name)] for name in columns]).any(axis=0)
    if leaks.all():
        raise TlxError(f"{table.name}: every row has a text of the sets in config.data.exclude, so no row is left.")
    return dataclasses.replace(table.rows(np.flatnonzero(~leaks)), excluded=int(leaks.sum()))


def _words(table: Table, name: str) -> list[str]:
    """The words of each text of a column, in lower case and joined by spaces."""
    column: Sequence[str | list[str]] = table.column(name)
    if any(not isinstance(value, str) and not isinstance(value, list) for value in column):
        raise TlxError(f"{table.name}: config.data.exclude compares texts, and the column {name!r} holds none.")
    texts = [value if isinstance(value, str) else " ".join(value) for value in column]
    return [" ".join(NO_WORD.sub(" ", text.casefold()).split()) for text in texts]


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
) -> dict[str, Table]:
    """Reads the splits.

    Args:
      config: `config.data`.
      inputs: the modality, which decides which rows have equal inputs; these stay in the same split.
      kind: the kind of the head.
      in_memory: tables by split that replace files of the config.

    Returns:
      The table of each split; `target` is the unlabelled set of the target domain, `target_test` its labelled test set.

    Raises:
      TlxError: if train or validation is missing, or a split is given twice.
    """
    in_memory = in_memory or {}
    if unknown := sorted(in_memory.keys() - {*PARTS}):
        raise TlxError(f"tables holds {listed(unknown)}; the splits are {listed(PARTS, most=len(PARTS))}.")
    if both := sorted(part for part in in_memory if config.get(part)):
        raise TlxError(f"tables and config.data both give {listed(both)}; give each split once.")
    sources: dict[str, str | Table] = {part: in_memory.get(part, config.get(part, "")) for part in PARTS}
    if sources["train"] == "":
        raise TlxError("config.data.train names no data; set for example --config.data.train=csv:train.csv.")
    unlabelled = config.get("unlabelled", "refuse")
    if unlabelled not in UNLABELLED:
        raise TlxError(f"config.data.unlabelled is {unlabelled!r}; it is one of {listed(UNLABELLED)}.")
    given = [sources["train"], *config.get("sources", ())]
    if unlabelled == "refuse":
        train = joined([load_labelled(source, config.label, kind) for source in given])
    else:  # after the split, which is then the same for all tasks of these rows
        train = joined([load(source) if isinstance(source, str) else source for source in given])
    fractions = {
        part: float(config[f"{part}_fraction"])
        for part in ("test", "validation")
        if sources[part] == "" and config[f"{part}_fraction"] > 0
    }
    columns = Columns.of(inputs, config)
    train = without_texts(train, list(columns.inputs.values()), config.get("exclude", ()))
    keys = _group_keys(train, config, inputs, columns, kind)
    rows = split_by_group(keys, fractions, config.split_seed)
    tables = {part: train.rows(chosen) for part, chosen in rows.items()}
    if most := config.get("train_rows"):
        if most < 0:
            raise TlxError(f"config.data.train_rows is {most}; it is above 0, or 0 for all rows.")
        tables["train"] = tables["train"].rows(subsample(len(tables["train"]), most, config.split_seed))
    if unlabelled != "refuse":
        tables = {part: labelled(table, config.label, kind, unlabelled) for part, table in tables.items()}
    if config.get("per_class"):
        sampled = subsample_per_class(labels.names(tables["train"], config.label), config.per_class, config.split_seed)
        tables["train"] = tables["train"].rows(sampled)
    for part in ("validation", "test", TARGET_TEST):
        if sources[part] != "":
            tables[part] = load_labelled(sources[part], config.label, kind, unlabelled)
    if (target := sources[TARGET]) != "":
        tables[TARGET] = _sampled(load(target) if isinstance(target, str) else target, config)
    if "validation" not in tables:
        raise TlxError("there is no validation data; give config.data.validation or a validation_fraction above 0.")
    return tables


def _group_keys(train: Table, config: ConfigDict, inputs: Modality, columns: Columns, kind: str) -> list[str]:
    """Strings that are equal for rows which stay in the same split; of questions those about the same context."""
    if config.group:
        return labels.groups(train, config.group)
    if kind == "question_answering" and config.pair:
        return [str(context) for context in train.column(config.pair)]
    return inputs.group_keys(columns, train)


def _sampled(target: Table, config: ConfigDict) -> Table:
    """`config.target_size` rows of the unlabelled target in their order, or all of them."""
    size = config.get("target_size", 0)
    if not 0 <= size <= len(target):
        raise TlxError(f"config.data.target_size is {size}; {target.name} has {len(target)} examples.")
    if not size:
        return target
    return target.rows(subsample(len(target), size, config.split_seed))
