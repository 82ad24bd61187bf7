"""Calibration: how well a classifier's confidence agrees with its accuracy (Guo et al. 2017)."""

import dataclasses

import numpy as np

BINS = 15


@dataclasses.dataclass(frozen=True)
class Reliability:
    """The bins of a reliability diagram: 15 bins of equal width over confidences in (0, 1].

    Attributes:
      counts: the number of predictions in each bin, integers (15,).
      confidence: their mean confidence, float64 (15,); 0 for an empty bin.
      accuracy: the fraction of correct predictions, float64 (15,); 0 for an empty bin.
    """

    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray


def reliability(logits: np.ndarray, labels: np.ndarray) -> Reliability:
    """Computes the bins of a reliability diagram.

    Args:
      logits: (n, classes).
      labels: integers (n,).
    """
    from scipy.special import softmax

    probabilities = softmax(logits.astype(np.float64), axis=-1)
    confidence = probabilities.max(axis=-1)
    correct = probabilities.argmax(axis=-1) == labels
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    sums = (np.bincount(bins, weights=values, minlength=BINS) for values in (confidence, correct))
    return Reliability(counts, *(total / np.maximum(counts, 1) for total in sums))


def calibration_error(logits: np.ndarray, labels: np.ndarray) -> float:
    """Returns the expected calibration error (Guo et al. 2017, eq. 3).

    It is the mean of |accuracy - confidence| over the bins, weighted by the number of predictions in each.

    Args:
      logits: (n, classes).
      labels: integers (n,).
    """
    bins = reliability(logits, labels)
    gap = np.abs(bins.accuracy - bins.confidence)
    return float((gap * bins.counts).sum() / bins.counts.sum())
