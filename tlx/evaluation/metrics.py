"""Metrics of answers against labels, by scikit-learn's definitions where it has them."""

from collections.abc import Callable

import numpy as np

HIGHER_IS_BETTER = {"accuracy": True, "macro_f1": True, "r2": True, "mean_error": False, "loss": False}


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """The share of examples whose largest logit is the label's. logits: (n, classes); labels: (n,)."""
    return float((logits.argmax(-1) == labels).mean())


def macro_f1(logits: np.ndarray, labels: np.ndarray) -> float:
    """F1 averaged over the classes that occur in labels or answers; a class never answered counts 0."""
    from sklearn.metrics import f1_score

    return float(f1_score(labels, logits.argmax(-1), average="macro", zero_division=0.0))


def r2(predictions: np.ndarray, targets: np.ndarray) -> float:
    """1 - residual / total sum of squares, averaged uniformly over outputs. Both (n, outputs)."""
    from sklearn.metrics import r2_score

    return float(r2_score(targets, predictions, multioutput="uniform_average"))


def mean_error(predictions: np.ndarray, targets: np.ndarray) -> float:
    """The mean Euclidean distance from target to prediction: with one output the mean absolute error, in CIELAB the
    mean ΔE76. Both (n, outputs)."""
    return float(np.linalg.norm(predictions - targets, axis=-1).mean())


METRICS: dict[str, dict[str, Callable[[np.ndarray, np.ndarray], float]]] = {
    "classification": {"accuracy": accuracy, "macro_f1": macro_f1},
    "regression": {"r2": r2, "mean_error": mean_error},
}
