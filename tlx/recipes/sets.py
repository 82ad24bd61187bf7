"""The data of a run: tables to splits, labels to numbers, texts to examples."""

import dataclasses
import hashlib
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from tlx.data import labels
from tlx.data.examples import Encoder, Examples
from tlx.data.sources import Table, load
from tlx.data.splits import cut
from tlx.errors import TlxError
from tlx.models.heads import Head


@dataclasses.dataclass(frozen=True)
class Sets:
    """examples, texts: by split (`train`, `validation`, and `test` if there is one). facts: sizes, for the summary."""

    examples: dict[str, Examples]
    texts: dict[str, list[str]]
    head: Head
    facts: dict[str, Any]


def load_tables(config: ConfigDict) -> dict[str, tuple[Table, np.ndarray]]:
    """Each split's table and the rows of its source that it holds."""
    if not config.train:
        raise TlxError("config.data.train names no data; say for example --config.data.train=csv:train.csv.")
    train = load(config.train)
    fractions = {
        part: float(config[f"{part}_fraction"])
        for part in ("test", "validation")
        if not config[part] and config[f"{part}_fraction"] > 0
    }
    keys = [str(key) for key in train.column(config.group or config.text)]
    rows = cut(keys, fractions, config.split_seed)
    tables = {part: (train.rows(chosen), chosen) for part, chosen in rows.items()}
    for part in ("validation", "test"):
        if config[part]:
            table = load(config[part])
            tables[part] = (table, np.arange(len(table)))
    if "validation" not in tables:
        raise TlxError("there is no validation data; give config.data.validation or a validation_fraction above 0.")
    return tables


def make_head(config: ConfigDict, train: Table, label: str) -> Head:
    """The head that these labels ask for, from the training split alone."""
    if config.kind == "regression":
        values = labels.targets(train, label).astype(np.float64)
        spread = values.std(axis=0)
        if not (spread > 0).all():
            raise TlxError(
                f"{train.name}: the target {label!r} is constant over the training split; nothing can be learnt."
            )
        shift, scale = (tuple(x.tolist()) for x in (values.mean(axis=0), spread))
        return Head("regression", values.shape[1], config.pooling, shift=shift, scale=scale)
    labels.refuse_missing(train, label)
    names = labels.classes(train.column(label))
    if len(names) < 2:
        raise TlxError(f"{train.name}: the column {label!r} holds one class only, {names[0]!r}.")
    return Head(config.kind, len(names), config.pooling, labels=names)


def load_sets(config: ConfigDict, encoder: Encoder) -> Sets:
    """Everything `config.data` and `config.head` name, tokenised."""
    data = config.data
    tables = load_tables(data)
    head = make_head(config.head, tables["train"][0], data.label)
    examples, texts = {}, {}
    for part, (table, rows) in tables.items():
        if head.kind == "regression":
            answers = labels.targets(table, data.label)
        else:
            answers = labels.class_indices(table, data.label, head.labels)
        texts[part] = labels.texts(table, data.text)
        examples[part] = Examples.encode(
            encoder, texts[part], fields={"label": answers}, example_id=rows.astype(np.int64)
        )
    return Sets(examples, texts, head, _facts(data, tables, examples))


def _facts(
    data: ConfigDict, tables: dict[str, tuple[Table, np.ndarray]], examples: dict[str, Examples]
) -> dict[str, Any]:
    grouped = {part: table.columns[data.group] for part, (table, _) in tables.items() if data.group in table.columns}
    groups = {part: len(set(column)) for part, column in grouped.items()}
    return {
        "examples": {part: len(table) for part, (table, _) in tables.items()},
        **({"groups": groups} if groups else {}),
        "sha256": {part: _digest(found) for part, found in examples.items()},
    }


def _digest(examples: Examples) -> str:
    """Of a split's tokens, labels and rows: another digest, other data."""
    digest = hashlib.sha256()
    for array in (examples.ids, examples.offsets, examples.example_id, *examples.fields.values()):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]
