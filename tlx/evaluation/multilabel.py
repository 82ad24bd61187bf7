"""Metrics of multi-label heads. Logits are (n, labels), labels 0 and 1 of the same shape.

A label is predicted where its logit is above 0.
"""

import numpy as np

from tlx.evaluation.decisions import Decisions


def subset_accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """The fraction of examples all of whose labels are predicted correctly."""
    return float(((logits > 0) == (labels == 1)).all(axis=-1).mean())


def micro_f1(logits: np.ndarray, labels: np.ndarray) -> float:
    """F1 over the labels of all examples at once; 0 if no label occurs and none is predicted."""
    return Decisions.of_labels(labels == 1, logits > 0).averaged_f1("micro")


def macro_f1(logits: np.ndarray, labels: np.ndarray) -> float:
    """F1 averaged over labels; a label that neither occurs nor is predicted counts as 0."""
    return Decisions.of_labels(labels == 1, logits > 0).averaged_f1("macro")


def weighted_f1(logits: np.ndarray, labels: np.ndarray) -> float:
    """F1 of each label weighted by how often it occurs; 0 if no label occurs."""
    return Decisions.of_labels(labels == 1, logits > 0).averaged_f1("weighted")


def average_precision(logits: np.ndarray, labels: np.ndarray) -> float:
    """The mean average precision over the labels that occur; 0 if no label occurs."""
    occurring = ((y, s) for y, s in zip((labels == 1).T, logits.T, strict=True) if y.any())
    values = [_average_precision(y, s) for y, s in occurring]
    return float(np.mean(values)) if values else 0.0


def roc_auc(logits: np.ndarray, labels: np.ndarray) -> float:
    """The area under the ROC curve, averaged over the labels that some examples have and others not; otherwise 0.5."""
    columns = zip((labels == 1).T, logits.T, strict=True)
    areas = [fraction_above(s[y], s[~y]).mean() for y, s in columns if y.any() and not y.all()]
    return float(np.mean(areas)) if areas else 0.5


def fraction_above(positives: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The fraction of the positive scores (p,) above each score (n,), equal ones counted half: float64 (n,).

    Its mean over the negatives' scores is the area under the ROC curve (Hanley & McNeil 1982).
    """
    positives = np.sort(positives)
    rank = (np.searchsorted(positives, scores, "left") + np.searchsorted(positives, scores, "right")) / 2
    return np.asarray((len(positives) - rank) / len(positives))


def _average_precision(labels: np.ndarray, scores: np.ndarray) -> float:
    """The sum over thresholds of precision times the gain in recall; labels are booleans (n,), scores (n,)."""
    order = np.argsort(-scores, kind="stable")
    thresholds = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)  # the last of equal scores
    right = np.cumsum(labels[order])[thresholds]
    return float((np.diff(right, prepend=0) * right / (thresholds + 1)).sum() / right[-1])
