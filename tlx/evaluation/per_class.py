"""Precision, recall and F1 of each class, each label, or each type of entity."""

import dataclasses
from collections.abc import Sequence

import numpy as np

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
    outputs: Sequence[int] = range(predictions.shape[-1])
    if kind == "tagging":
        predicted = predicted_tags(predictions)
    elif kind == "classification":
        predicted = predictions.argmax(-1)
    elif kind == "multilabel":
        predicted = (predictions > 0).astype(int)
        outputs = outputs if len(outputs) > 1 else [1]  # scikit-learn reads a single column as the classes 0 and 1
    else:
        return []
    from sklearn.metrics import precision_recall_fscore_support

    columns = precision_recall_fscore_support(labels, predicted, labels=outputs, zero_division=0.0)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [ClassReport(names[i] if len(names) else str(i), *row) for i, row in enumerate(rows)]


def confusion(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the confusion matrix, integers (classes, classes): rows are labels, columns are predictions.

    Args:
      logits: (n, classes).
      labels: integers (n,).
    """
    from sklearn.metrics import confusion_matrix

    return np.asarray(confusion_matrix(labels, logits.argmax(-1), labels=np.arange(logits.shape[-1])))
