"""Precision, recall and F1 of each class, each label, or each type of entity."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from tlx.evaluation.decisions import Decisions
from tlx.evaluation.entities import counts, has_entities, precision_recall_f1
from tlx.evaluation.tagging import predicted_tags


@dataclasses.dataclass(frozen=True)
class ClassReport:
    """The scores of one class; a score that would be 0 / 0 is 0.

    Attributes:
      name: the name of the class, label or type of entity.
      precision: the fraction of predictions of this class that are correct.
      recall: the fraction of its true examples that are predicted.
      f1: the harmonic mean of precision and recall.
      support: the number of its true examples.
    """

    name: str
    precision: float
    recall: float
    f1: float
    support: int


def per_class(
    kind: str, predictions: np.ndarray, labels: np.ndarray, names: Sequence[str], offsets: np.ndarray | None = None
) -> list[ClassReport]:
    """Returns the scores of each class.

    There is one report for each class of a classification, each label of a multilabel head, and each type of entity of
    a tagging head (each tag, if the tags do not form entities). For other kinds the list is empty.

    Args:
      kind: the kind of the head.
      predictions: as in `tlx.evaluation.metrics.measure`.
      labels: as in `tlx.evaluation.metrics.measure`.
      names: the names of the classes.
      offsets: as in `tlx.evaluation.metrics.measure`.
    """
    if kind == "tagging" and offsets is not None and has_entities(names):
        table = counts(predicted_tags(predictions), labels, names, offsets)
        return [ClassReport(name, *precision_recall_f1(*row), row[2]) for name, row in table.items()]
    if kind == "multilabel":
        found = Decisions.of_labels(labels == 1, predictions > 0)
    elif kind in ("classification", "tagging"):
        predicted = predicted_tags(predictions) if kind == "tagging" else predictions.argmax(-1)
        found = Decisions.of_classes(labels, predicted, predictions.shape[-1])
    else:
        return []
    columns = (found.precision, found.recall, found.f1, found.true)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [ClassReport(names[i] if len(names) else str(i), *row) for i, row in enumerate(rows)]


def confusion(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the confusion matrix, integers (classes, classes): rows are labels, columns are predictions.

    Args:
      logits: (n, classes).
      labels: integers (n,).
    """
    classes = logits.shape[-1]
    return np.bincount(labels * classes + logits.argmax(-1), minlength=classes**2).reshape(classes, classes)
