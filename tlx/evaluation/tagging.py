"""Metrics of tagged words. Logits are (words, tags), labels integers (words,).

A word for which the model made no prediction has the logits NaN and counts as wrong.
"""

import numpy as np

from tlx.evaluation.decisions import Decisions


def predicted_tags(logits: np.ndarray) -> np.ndarray:
    """Returns the tag with the largest logit of each word, int64 (words,); -1 for a word without prediction."""
    return np.where(np.isnan(logits).all(axis=-1), -1, logits.argmax(-1))


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """The fraction of words whose tag is predicted correctly."""
    return float((predicted_tags(logits) == labels).mean())


def macro_f1(logits: np.ndarray, labels: np.ndarray) -> float:
    """F1 averaged over the tags that occur in labels or predictions; a word without prediction is a false negative."""
    decisions = Decisions.of_classes(labels, predicted_tags(logits), logits.shape[-1])
    return float(decisions.f1[decisions.occurring].mean())
