"""The metrics of a trained run, on the sets of its config or on another file with the same columns."""

import dataclasses
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from tlx.data.examples import ExampleSet
from tlx.errors import TlxError
from tlx.evaluation.per_class import ClassReport
from tlx.models.heads import Head
from tlx.recipes import datasets
from tlx.recipes.datasets import word_facts
from tlx.recipes.run_directory import Trained, load_run, read_run
from tlx.runs.predictions import predict_examples
from tlx.training.tasks import class_reports, score


@dataclasses.dataclass(frozen=True)
class Evaluated:
    """One set's figures. classes: of each class, label or type of entity; empty of a regression. words: of tagged
    sentences, as `tlx.recipes.datasets.word_facts` counts them."""

    examples: int
    step: int
    metrics: dict[str, float]
    classes: list[ClassReport]
    words: dict[str, int]


def evaluate(run: Path, data: str | None = None) -> dict[str, Evaluated]:
    """The best checkpoint on every set but train, or on `data` (a spec such as `csv:FILE`) alone; it writes nothing.

    Raises:
      TlxError: the run's own files have changed: a text that it learnt from might stand in its test set now.
    """
    trained = load_run(run)
    head = trained.head
    found = {}
    for part, examples in datasets_of(run, trained, data).items():
        predictions = predict_examples(trained, examples)
        words = examples.words
        classes = class_reports(predictions, examples, head)
        count = len(examples) if words is None else len(words.sentence_id)
        found[part] = Evaluated(count, trained.step, _metrics(predictions, examples, head), classes, word_facts(words))
    return found


def measured(trained: Trained, examples: ExampleSet) -> dict[str, float]:
    """Every metric of a set by name."""
    return _metrics(predict_examples(trained, examples), examples, trained.head)


def _metrics(predictions: np.ndarray, examples: ExampleSet, head: Head) -> dict[str, float]:
    return score(predictions, examples, head)


def datasets_of(run: Path, trained: Trained, data: str | None = None) -> dict[str, ExampleSet]:
    """The run's sets but train, which are as they were when it began; or `data` alone."""
    begun_with = {} if data is not None else read_run(run).get("data", {}).get("sha256", {})
    head = trained.head
    config = ConfigDict(trained.config)
    if data is None:
        held = datasets.load_tables(config.data, trained.inputs, head.kind)
        tables = {part: found for part, found in held.items() if part != "train"}
    else:
        table = datasets.load_labelled(data, config.data.label, head.kind)
        tables = {data: datasets.numbered(table)}
    found = {}
    for part, (table, rows) in tables.items():
        examples = trained.inputs.encode(trained.columns, head, table, rows.astype(np.int64))
        if datasets.digest(examples) != begun_with.get(part, datasets.digest(examples)):
            raise TlxError(
                f"{run} was begun with another {part} set than its config gives now; bring the old file back, or name "
                "one with --data."
            )
        found[part] = examples
    return found
