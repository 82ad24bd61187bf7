"""Metrics of multi-label heads. Logits are (n, labels), labels 0 and 1 of the same shape.

A label is predicted where its logit is above 0.
"""

import numpy as np


def subset_accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """The fraction of examples all of whose labels are predicted correctly."""
    return float(((logits > 0) == (labels == 1)).all(axis=-1).mean())


def micro_f1(logits: np.ndarray, labels: np.ndarray) -> float:
    """F1 over the labels of all examples at once; 0 if no label occurs and none is predicted."""
    return averaged_f1(labels, logits > 0, "micro")


def macro_f1(logits: np.ndarray, labels: np.ndarray) -> float:
    """F1 averaged over labels; a label that neither occurs nor is predicted counts as 0."""
    return averaged_f1(labels, logits > 0, "macro")


def weighted_f1(logits: np.ndarray, labels: np.ndarray) -> float:
    """F1 of each label weighted by how often it occurs; 0 if no label occurs."""
    return averaged_f1(labels, logits > 0, "weighted")


def average_precision(logits: np.ndarray, labels: np.ndarray) -> float:
    """The mean average precision over the labels that occur; 0 if no label occurs."""
    from sklearn.metrics import average_precision_score

    occurring = ((y, s) for y, s in zip((labels == 1).T, logits.T, strict=True) if y.any())
    values = [average_precision_score(y, s) for y, s in occurring]
    return float(np.mean(values)) if values else 0.0


def roc_auc(logits: np.ndarray, labels: np.ndarray) -> float:
    """The area under the ROC curve, averaged over the labels that some examples have and others not; otherwise 0.5."""
    from sklearn.metrics import roc_auc_score

    columns = zip((labels == 1).T, logits.T, strict=True)
    areas = [roc_auc_score(y, s) for y, s in columns if y.any() and not y.all()]
    return float(np.mean(areas)) if areas else 0.5


def averaged_f1(labels: np.ndarray, predictions: np.ndarray, average: str) -> float:
    """scikit-learn's F1 with 0 for an undefined one.

    Args:
      labels: classes (n,), or 0 and 1 (n, labels).
      predictions: predicted classes or labels, of the same shape.
      average: `micro`, `macro` or `weighted`.
    """
    from sklearn.metrics import f1_score

    only = [1] if labels.shape[1:] == (1,) else None  # scikit-learn takes one column for classes 0 and 1
    return float(f1_score(labels, predictions, labels=only, average=average, zero_division=0.0))
