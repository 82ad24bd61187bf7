"""The data of a run: reads the splits, makes the head from the labels and encodes the examples."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from tlx.data import labels
from tlx.data.examples import ExampleSet
from tlx.data.sources import Table
from tlx.data.tags import tag_names
from tlx.data.targets import label_names, regression_targets
from tlx.errors import TlxError, listed
from tlx.modalities.api import Columns, Modality
from tlx.modalities.text import Texts
from tlx.models.heads import Head
from tlx.pretrained.own_head import masked_lm_head
from tlx.recipes.data_facts import data_facts
from tlx.recipes.encoded import entry_of
from tlx.recipes.run_directory import heads_as_json, heads_from
from tlx.recipes.splits import TARGET, load_tables
from tlx.training.tasks import DEFAULT

# The heads that can be trained on a file.
TRAINABLE_KINDS = ("classification", "multilabel", "regression", "tagging", "question_answering", "masked_lm")


@dataclasses.dataclass(frozen=True)
class Datasets:
    """The data of a task.

    Attributes:
      examples: examples by split: `train`, `validation` and, if there are any, `test`, `target_test` and `target`. The
        examples of `target` have no labels.
      read_tables: returns the tables that the examples were made from, by split.
      head: the head that fits the labels.
      facts: facts for the summary: sizes, how many examples of the other splits are also in train, digests.
    """

    examples: Mapping[str, ExampleSet]
    read_tables: Callable[[], dict[str, Table]]
    head: Head
    facts: dict[str, Any]

    @functools.cached_property
    def tables(self) -> dict[str, Table]:
        """The tables that the examples were made from, by split; read again if the examples came from the cache."""
        return self.read_tables()


def make_head(config: ConfigDict, train: Table, inputs: Modality) -> Head:
    """Makes the head that fits the labels of the training split.

    Args:
      config: the run's config.
      train: the table of the training split.
      inputs: the modality; it has the checkpoint, whose head of masked language modelling is used.

    Raises:
      TlxError: if the kind of head is unknown, or the labels have a single class or a constant target.
    """
    kind, pooling, label = config.head.kind, config.head.pooling, config.data.label
    if kind == "masked_lm":
        return masked_lm_head_of(config, inputs)
    if kind == "question_answering":
        settings = {name: config.head[name] for name in ("n_best", "max_answer_length", "null_threshold")}
        return Head(kind, 2, pooling, **settings)
    if kind == "regression":
        values = regression_targets(train, label).astype(np.float64)
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
        names = label_names(train, label, config.data.label_separator)
    elif kind == "tagging":
        names = tag_names(train, label)
    elif kind == "classification":
        names = labels.classes(labels.names(train, label), f"{train.name}: the labels in {label!r}")
    else:
        raise TlxError(f"config.head.kind is {kind!r}; it is one of {listed(TRAINABLE_KINDS)}.")
    if len(names) < 2 and kind != "multilabel":
        raise TlxError(f"{train.name}: the column {label!r} holds one class only, {names[0]!r}.")
    return Head(kind, len(names), pooling, labels=names)


def masked_lm_head_of(config: ConfigDict, inputs: Modality) -> Head:
    """Returns the checkpoint's head of masked language modelling, or a new one, tied to the word embeddings.

    Raises:
      TlxError: the checkpoint reads no texts, or its tokenizer has no mask token.
    """
    if not isinstance(inputs, Texts):
        raise TlxError(f"config.head.kind is 'masked_lm', which reads texts; this checkpoint reads {inputs.plural}.")
    tokenizer, tables = inputs.tokenizer, inputs.tokenizer.tables
    _ = tokenizer.mask_id  # there is one
    assert tables is not None  # tlx has the family, or there would be no modality
    own = masked_lm_head(tokenizer.folder) if config.model.weights == "pretrained" else None
    return own or Head("masked_lm", tables.vocabulary)


def load_datasets(config: ConfigDict, inputs: Modality, in_memory: Mapping[str, Table] | None = None) -> Datasets:
    """Reads and encodes the data of `config.data` and `config.head`, or reads what an earlier run has encoded.

    Lines about the data that a user should see are printed in both cases.

    Args:
      config: the run's config.
      inputs: the modality, which encodes the examples.
      in_memory: tables by split that replace files of the config.

    Raises:
      TlxError: if the data is invalid.
    """

    def tell(line: str) -> None:
        print(line, flush=True)

    entry = None if in_memory else entry_of(config, inputs)
    if entry is not None and (found := entry.read(tell)) is not None:
        examples, values = found
        for line in values["lines"]:
            tell(line)
        heads = heads_from({DEFAULT: values["head"]})
        if config.head.kind == "masked_lm":  # the weights, which are no part of the entry's name, decide
            heads[DEFAULT] = masked_lm_head_of(config, inputs)
        read = functools.partial(load_tables, config.data, inputs, config.head.kind)
        return Datasets(examples, read, heads[DEFAULT], values["facts"])
    lines: list[str] = []

    def tell_and_keep(line: str) -> None:
        tell(line)
        lines.append(line)

    datasets = _read(config, inputs, in_memory, tell_and_keep)
    if entry is not None and entry_of(config, inputs) == entry:  # the files are still those that were digested
        head = heads_as_json({DEFAULT: datasets.head})[DEFAULT]
        entry.write(datasets.examples, {"facts": datasets.facts, "head": head, "lines": lines}, tell)
    return datasets


def _read(
    config: ConfigDict, inputs: Modality, in_memory: Mapping[str, Table] | None, tell: Callable[[str], None]
) -> Datasets:
    tables = load_tables(config.data, inputs, config.head.kind, in_memory)
    head, columns = make_head(config, tables["train"], inputs), Columns.of(inputs, config.data)
    examples = {
        part: inputs.encode(columns, None if part == TARGET else head, table, table.source_rows)
        for part, table in tables.items()
    }
    return Datasets(examples, lambda: tables, head, data_facts(config, tables, examples, inputs, head, tell))
