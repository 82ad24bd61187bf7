"""Evaluates a trained run on the sets of its config or on another file with the same columns."""

import dataclasses
from pathlib import Path

from ml_collections import ConfigDict

from tlx.data.examples import ExampleSet
from tlx.errors import TlxError
from tlx.evaluation.per_class import ClassReport
from tlx.recipes.data_facts import count_words, digest
from tlx.recipes.encoded import entry_of
from tlx.recipes.run_directory import read_run
from tlx.recipes.splits import TARGET, load_labelled, load_tables
from tlx.recipes.trained import Trained, load_run
from tlx.runs.predictions import predict_examples
from tlx.training.tasks import class_reports, score

NOT_EVALUATED = ("train", TARGET)  # sets of a run; that of the target has no labels


@dataclasses.dataclass(frozen=True)
class Evaluated:
    """The result of evaluating a set.

    Attributes:
      examples: number of examples (for tagging, of sentences; for question answering, of questions).
      step: step of the checkpoint.
      metrics: metrics by name.
      classes: precision, recall and F1 of each class, label or type of entity; empty for regression.
      words: for tagging, the counts of `tlx.recipes.data_facts.count_words`; otherwise {}.
    """

    examples: int
    step: int
    metrics: dict[str, float]
    classes: list[ClassReport]
    words: dict[str, int]


def evaluate(
    run: Path, data: str | None = None, step: int | None = None, task: str | None = None
) -> dict[str, Evaluated]:
    """Evaluates the best checkpoint of a run. Nothing is written.

    Args:
      run: the run directory.
      data: a data spec such as `csv:FILE`; None: all sets of the run's config except train.
      step: another step that has a checkpoint; None: the best.
      task: one task of a run of several; None: all of them, for which `data` is None.

    Returns:
      The results by set; of a task with a name, by `TASK/SET`.

    Raises:
      TlxError: if the files of the run's data have changed, because a training example might now be in the test set.
    """
    trained = load_run(run, step)
    if task is None and (data is not None or not trained.tasks):
        return _evaluated(run, trained, data, None)
    names = list(trained.tasks) if task is None else [task]
    by_task = {name: _evaluated(run, trained.of_task(name), data, name) for name in names}
    return {f"{name}/{part}": each for name, found in by_task.items() for part, each in found.items()}


def _evaluated(run: Path, trained: Trained, data: str | None, task: str | None) -> dict[str, Evaluated]:
    head, results = trained.head, {}
    for part, examples in datasets_of(run, trained, data, task).items():
        predictions = predict_examples(trained, examples)
        words = examples.words
        classes = class_reports(predictions, examples, head)
        count = len(examples) if words is None else len(words.sentence_id)
        count = count if examples.spans is None else len(examples.spans)
        metrics = score(predictions, examples, head)
        results[part] = Evaluated(count, trained.step, metrics, classes, count_words(words))
    return results


def measured(trained: Trained, examples: ExampleSet) -> dict[str, float]:
    """Returns all metrics of a trained run on a set, by name."""
    return score(predict_examples(trained, examples), examples, trained.head)


def datasets_of(run: Path, trained: Trained, data: str | None = None, task: str | None = None) -> dict[str, ExampleSet]:
    """Reads and encodes the sets of a run except train, or only `data`.

    Sets of the run that its training has encoded and kept on disk (`tlx.recipes.encoded`) are read from there.

    Args:
      run: the run directory.
      trained: the trained run.
      data: a data spec such as `csv:FILE`; None: the sets of the run's config.
      task: the task that `trained` is of, of a run of several.

    Raises:
      TlxError: if a set of the run has changed since the run was started.
    """
    facts = read_run(run).get("data", {})
    digests = facts.get("tasks", {}).get(task, facts).get("sha256", {})
    head = trained.head
    config = ConfigDict(trained.config)
    if data is not None:
        table = load_labelled(data, config.data.label, head.kind, config.data.get("unlabelled", "refuse"))
        return {data: trained.inputs.encode(trained.columns, head, table, table.source_rows)}
    sets = _kept(config, trained)
    if sets is None:
        tables = load_tables(config.data, trained.inputs, head.kind)
        sets = {
            part: trained.inputs.encode(trained.columns, head, table, table.source_rows)
            for part, table in tables.items()
            if part not in NOT_EVALUATED
        }
    for part, examples in sets.items():
        if digest(examples) != digests.get(part, digest(examples)):
            raise TlxError(
                f"{run} was started with another {part} set than its config gives now; restore the old file, or name "
                "one with --data."
            )
    return sets


def _kept(config: ConfigDict, trained: Trained) -> dict[str, ExampleSet] | None:
    """The sets of a run except train as its training has kept them; None if there are none."""
    entry = entry_of(config, trained.inputs)
    found = None if entry is None else entry.read(print)
    return (
        None if found is None else {part: examples for part, examples in found[0].items() if part not in NOT_EVALUATED}
    )
