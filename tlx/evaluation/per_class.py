"""Precision, recall and F1 of each class, each label, or each type of entity."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from tlx.evaluation.entities import counts, has_entities, precision_recall_f1
from tlx.evaluation.metrics import chosen_tags


@dataclasses.dataclass(frozen=True)
class ClassReport:
    """support: how many there truly are. What would be 0 / 0 is 0."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int


def per_class(
    kind: str, predictions: np.ndarray, labels: np.ndarray, names: Sequence[str], offsets: np.ndarray | None = None
) -> list[ClassReport]:
    """A row for each class of a classification, label of a multilabel, type of entity of a tagging or, where its tags
    form no entities, each tag; else none.

    Args: as `tlx.evaluation.metrics.measure` has them.
    """
    if kind == "tagging" and offsets is not None and has_entities(names):
        table = counts(chosen_tags(predictions), labels, names, offsets)
        return [ClassReport(name, *precision_recall_f1(*row), row[2]) for name, row in table.items()]
    outputs: Sequence[int] = range(predictions.shape[-1])
    if kind == "tagging":
        answered = chosen_tags(predictions)
    elif kind == "classification":
        answered = predictions.argmax(-1)
    elif kind == "multilabel":
        answered = (predictions > 0).astype(int)
        outputs = outputs if len(outputs) > 1 else [1]  # scikit-learn takes one column for classes 0 and 1
    else:
        return []
    from sklearn.metrics import precision_recall_fscore_support

    columns = precision_recall_fscore_support(labels, answered, labels=outputs, zero_division=0.0)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [ClassReport(names[i] if len(names) else str(i), *row) for i, row in enumerate(rows)]


def confusion(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Counts (classes, classes): the row is the label, the column the answer. logits: (n, classes); labels: (n,)."""
    from sklearn.metrics import confusion_matrix

    return np.asarray(confusion_matrix(labels, logits.argmax(-1), labels=np.arange(logits.shape[-1])))
