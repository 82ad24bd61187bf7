"""TrAdaBoost (Dai et al. 2007): boosting on labelled source rows with the help of few labelled target rows."""

from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, clone

from tlx.errors import TlxError

LEAST_ERROR = 1e-10  # a round without errors would have an infinite vote


class TrAdaBoost(ClassifierMixin, BaseEstimator):
    """Lowers the weights of source rows that are classified wrongly and raises those of target rows that are.

    In each round the weights are scaled to a mean of 1 and the estimator is fitted on the rows of both domains. ε is
    the weighted share of wrong target rows, at most 1/2; β_t = ε / (1 − ε), β = 1 / (1 + √(2 ln n / rounds)). Weights
    of wrong source rows are multiplied by β, of wrong target rows by 1 / β_t. The second half of the rounds votes, with
    log(1 / β_t). The paper has two classes; an error is a wrong class here as there.

    It assumes that the source rows which a classifier of the target gets wrong are those that mislead. With too few
    target rows ε is 0 or noise.

    Args:
      estimator: a scikit-learn classifier whose `fit` takes `sample_weight`; None: logistic regression.
      rounds: the number of rounds, N of the paper.

    Attributes:
      classes_: the classes.
      estimators_: the classifier of each round.
      errors_: ε of each round, float64 (rounds,).
    """

    def __init__(self, estimator: Any = None, *, rounds: int = 20):
        self.estimator, self.rounds = estimator, rounds

    def fit(self, source: np.ndarray, labels: Any, target: np.ndarray, target_labels: Any) -> Self:
        """Fits the classifiers.

        Args:
          source: (n, features).
          labels: of the source, (n,).
          target: (m, features), m at least 1.
          target_labels: (m,).

        Raises:
          TlxError: if `rounds` is below 1 or there are no target rows.
        """
        from sklearn.linear_model import LogisticRegression

        if self.rounds < 1 or not len(target):
            raise TlxError(f"TrAdaBoost has {self.rounds} rounds and {len(target)} target rows; at least 1 of each.")
        rows, given = np.concatenate([source, target]), np.concatenate([np.asarray(labels), np.asarray(target_labels)])
        in_target = np.arange(len(rows)) >= len(source)
        beta = 1 / (1 + np.sqrt(2 * np.log(max(len(source), 1)) / self.rounds))
        self.classes_ = np.unique(given)
        self.estimators_: list[Any] = []
        errors: list[float] = []
        weights = np.ones(len(rows))
        for _ in range(self.rounds):
            weights = weights / weights.mean()
            fitted = clone(LogisticRegression() if self.estimator is None else self.estimator)
            fitted.fit(rows, given, sample_weight=weights)
            wrong = fitted.predict(rows) != given
            error = weights[in_target & wrong].sum() / weights[in_target].sum()
            error = float(np.clip(error, LEAST_ERROR, 0.5))
            weights = weights * np.where(wrong, np.where(in_target, (1 - error) / error, beta), 1)
            self.estimators_.append(fitted)
            errors.append(error)
        self.errors_ = np.array(errors)
        return self

    def predict(self, rows: np.ndarray) -> np.ndarray:
        """The class with most votes, (rows,); of equal votes the later class, as in the paper."""
        first = int(np.ceil(self.rounds / 2)) - 1  # the paper counts rounds from 1
        votes = np.log((1 - self.errors_) / self.errors_)[first:]
        votes = votes if votes.sum() > 0 else np.ones_like(votes)  # all rounds as bad as chance
        total = np.zeros((len(rows), len(self.classes_)))
        for vote, fitted in zip(votes, self.estimators_[first:], strict=True):
            total += vote * (np.asarray(fitted.predict(rows))[:, None] == self.classes_)
        last = len(self.classes_) - 1 - np.argmax(total[:, ::-1], axis=1)
        return self.classes_[last]
