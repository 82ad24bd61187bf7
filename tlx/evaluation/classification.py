"""Metrics of classification. Logits are (n, classes), labels integers (n,); the largest logit is the prediction."""

from collections.abc import Callable

import numpy as np

from tlx.evaluation import multilabel
from tlx.evaluation.decisions import Decisions


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """The fraction of examples that are predicted correctly."""
    return float((logits.argmax(-1) == labels).mean())


def recalls(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the recall of each class that occurs in the labels, float64 (occurring classes,)."""
    right = logits.argmax(-1) == labels
    return np.array([right[labels == c].mean() for c in np.unique(labels)])


def balanced_accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """The mean recall of the classes that occur in the labels."""
    return float(recalls(logits, labels).mean())


def worst_class_accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """The lowest recall of the classes that occur in the labels."""
    return float(recalls(logits, labels).min())


def macro_f1(logits: np.ndarray, labels: np.ndarray) -> float:
    """F1 averaged over the classes that occur in labels or predictions; a class that is never predicted counts as 0."""
    decisions = _decisions(logits, labels)
    return float(decisions.f1[decisions.occurring].mean())


def micro_f1(logits: np.ndarray, labels: np.ndarray) -> float:
    """F1 over the decisions for all classes at once, which equals the accuracy."""
    return _decisions(logits, labels).averaged_f1("micro")


def weighted_f1(logits: np.ndarray, labels: np.ndarray) -> float:
    """F1 of each class weighted by how often it occurs in the labels; a class that is never predicted counts as 0."""
    return _decisions(logits, labels).averaged_f1("weighted")


def f1(logits: np.ndarray, labels: np.ndarray) -> float:
    """F1 of the second of two classes, as GLUE reports it; 0 if that class neither occurs nor is predicted."""
    return float(_decisions(logits, labels).f1[1])


def mcc(logits: np.ndarray, labels: np.ndarray) -> float:
    """Matthews' correlation of labels and predictions; 0 if either is constant."""
    return _decisions(logits, labels).mcc()


def kappa(logits: np.ndarray, labels: np.ndarray) -> float:
    """Cohen's kappa of labels and predictions; 0 if both are the same class throughout."""
    return _decisions(logits, labels).kappa()


def top_k_accuracy(k: int) -> Callable[[np.ndarray, np.ndarray], float]:
    """Returns a metric: the fraction of examples whose label is among the k largest logits.

    Of equal logits those of the last classes are taken, as in scikit-learn.
    """

    def top_k(logits: np.ndarray, labels: np.ndarray) -> float:
        highest = np.argsort(logits, axis=-1, kind="stable")[:, -k:]
        return float((highest == labels[:, None]).any(axis=-1).mean())

    return top_k


def brier(logits: np.ndarray, labels: np.ndarray) -> float:
    """The Brier score, as scikit-learn's `brier_score_loss`; lower is better.

    With two classes it is the mean of (p - y)² of the second class, from 0 to 1; with more, the mean over examples of
    the sum over classes, from 0 to 2.
    """
    from scipy.special import softmax

    probabilities = softmax(logits.astype(np.float64), axis=-1)
    squares = (probabilities - (labels[:, None] == np.arange(logits.shape[-1]))) ** 2
    return float((squares[:, 1] if logits.shape[-1] == 2 else squares.sum(axis=-1)).mean())


def average_precision(logits: np.ndarray, labels: np.ndarray) -> float:
    """The average precision of the second of two classes; with more classes, the mean over one-vs-rest problems.

    Classes that do not occur are left out of the mean; without any, it is 0.
    """
    return multilabel.average_precision(*_one_vs_rest(logits, labels))


def roc_auc(logits: np.ndarray, labels: np.ndarray) -> float:
    """The area under the ROC curve of the second of two classes; with more, the mean over one-vs-rest problems.

    A class that no example has, or that all have, is left out of the mean; without any other, it is 0.5.
    """
    return multilabel.roc_auc(*_one_vs_rest(logits, labels))


def roc_auc_ovo(logits: np.ndarray, labels: np.ndarray) -> float:
    """The area under the ROC curve averaged over the ordered pairs of classes that occur (one-vs-one).

    Hand & Till 2001, eq. 7, which is scikit-learn's `multi_class="ovo"`. With two classes it is `roc_auc`. Without a
    pair it is 0.5. scikit-learn computes each pair separately; here a class is ranked against all others in one pass,
    which takes seconds for a thousand classes.
    """
    if logits.shape[-1] == 2:
        return roc_auc(logits, labels)
    scores, occurring = _log_softmax(logits), np.unique(labels)
    counts, areas = np.bincount(labels, minlength=logits.shape[-1]), []
    for label in occurring:
        score = scores[:, label]
        above = multilabel.fraction_above(score[labels == label], score)
        sums = np.bincount(labels, weights=above, minlength=logits.shape[-1])
        others = occurring[occurring != label]
        areas += (sums[others] / counts[others]).tolist()
    return float(np.mean(areas)) if areas else 0.5


def _decisions(logits: np.ndarray, labels: np.ndarray) -> Decisions:
    return Decisions.of_classes(labels, logits.argmax(-1), logits.shape[-1])


def _one_vs_rest(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns scores and 0 or 1 of the second class, (n, 1), or of each of more than two classes, (n, classes)."""
    if logits.shape[-1] == 2:
        return (logits[:, 1] - logits[:, 0])[:, None], (labels == 1)[:, None]
    return _log_softmax(logits), labels[:, None] == np.arange(logits.shape[-1])


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    from scipy.special import logsumexp

    return np.asarray(logits - logsumexp(logits, axis=-1, keepdims=True))
