"""Scores of decisions, from counts of right ones: F1, Matthews' correlation, Cohen's kappa.

The definitions, and the value 0 of what would be 0 / 0, are scikit-learn's, whose import alone takes longer than the
evaluation of a small set.
"""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Decisions:
    """Counts of each class, label or tag, all int64 (classes,).

    Attributes:
      right: examples of the class that are predicted as such.
      predicted: examples that are predicted as the class.
      true: examples of the class.
    """

    right: np.ndarray
    predicted: np.ndarray
    true: np.ndarray

    @classmethod
    def of_classes(cls, labels: np.ndarray, predictions: np.ndarray, classes: int) -> "Decisions":
        """Counts classes, integers (n,); a prediction of -1 is none."""
        right, given = labels[labels == predictions], predictions[predictions >= 0]
        return cls(*(np.bincount(each, minlength=classes) for each in (right, given, labels)))

    @classmethod
    def of_labels(cls, labels: np.ndarray, predictions: np.ndarray) -> "Decisions":
        """Counts the labels of each example, booleans (n, labels)."""
        return cls(*(each.sum(axis=0, dtype=np.int64) for each in (labels & predictions, predictions, labels)))

    @property
    def precision(self) -> np.ndarray:
        """Right decisions of those predicted, float64 (classes,)."""
        return _ratio(self.right, self.predicted)

    @property
    def recall(self) -> np.ndarray:
        """Right decisions of those true, float64 (classes,)."""
        return _ratio(self.right, self.true)

    @property
    def f1(self) -> np.ndarray:
        """The harmonic mean of precision and recall, float64 (classes,)."""
        return _ratio(2 * self.right, self.predicted + self.true)

    @property
    def occurring(self) -> np.ndarray:
        """Whether a class is true of an example or predicted for one, bool (classes,)."""
        return (self.predicted + self.true) > 0

    def averaged_f1(self, average: str) -> float:
        """F1 of all decisions at once (`micro`), its mean over classes (`macro`) or weighted by `true` (`weighted`)."""
        if average == "micro":
            return float(_ratio(2 * self.right.sum(), (self.predicted + self.true).sum()))
        if average == "weighted":
            return float(_ratio((self.f1 * self.true).sum(), self.true.sum()))
        return float(self.f1.mean())

    def mcc(self) -> float:
        """Matthews' correlation for any number of classes (Gorodkin 2004, eq. 8); 0 if either side is constant."""
        examples, right = float(self.true.sum()), float(self.right.sum())
        predicted, true = self.predicted.astype(float), self.true.astype(float)
        squares = (examples**2 - predicted @ predicted) * (examples**2 - true @ true)
        return float(_ratio(right * examples - predicted @ true, np.sqrt(squares)))

    def kappa(self) -> float:
        """Cohen's kappa (Cohen 1960, eq. 1); 0 if both sides are one class throughout."""
        examples = float(self.true.sum())
        chance = float((self.predicted.astype(float) @ self.true) / examples**2)
        return float(_ratio(self.right.sum() / examples - chance, 1 - chance))


def _ratio(above: np.ndarray | float, below: np.ndarray | float) -> np.ndarray:
    """Quotients, 0 where the divisor is 0."""
    quotients = np.zeros(np.shape(above))
    return np.divide(above, below, out=quotients, where=np.asarray(below) != 0)
