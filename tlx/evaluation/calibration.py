"""Is a model as often right as it says? Confidence against accuracy (Guo et al. 2017)."""

import dataclasses

import numpy as np

BINS = 15


@dataclasses.dataclass(frozen=True)
class Reliability:
    """By bin of confidence, 15 of equal width over (0, 1]: how many answers, their mean confidence, the share that is
    right; the last two 0 where a bin is empty."""

    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray


def reliability(logits: np.ndarray, labels: np.ndarray) -> Reliability:
    """The bins of a reliability diagram. logits: (n, classes); labels: (n,)."""
    from scipy.special import softmax

    probabilities = softmax(logits.astype(np.float64), axis=-1)
    confidence = probabilities.max(axis=-1)
    right = probabilities.argmax(axis=-1) == labels
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    whole = np.maximum(counts, 1)
    sums = (np.bincount(bins, weights=values, minlength=BINS) for values in (confidence, right))
    return Reliability(counts, *(total / whole for total in sums))


def calibration_error(logits: np.ndarray, labels: np.ndarray) -> float:
    """The expected calibration error: |accuracy - confidence| averaged over the bins, weighed by their answers
    (Guo et al. 2017, eq. 3)."""
    bins = reliability(logits, labels)
    gap = np.abs(bins.accuracy - bins.confidence)
    return float((gap * bins.counts).sum() / bins.counts.sum())
