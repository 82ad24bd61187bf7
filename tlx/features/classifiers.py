"""Classifiers on features: linear probe, nearest neighbors, prototypes. One hyperparameter is chosen on validation.

The classifiers are scikit-learn's. They compute in float64 and converge to a given tolerance, so the result depends on
the backbone and not on numbers of steps and learning rates. Logistic regression is solved by L-BFGS (Liu & Nocedal
1989), as in CLIP's linear probes (Radford et al. 2021, A.3). `mix.py` uses optax's L-BFGS, because there more than the
classifier is trained.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tlx.errors import TlxError

STRENGTHS = tuple(10.0**power for power in range(-4, 5))
COUNTS = (1, 3, 5, 10, 20, 50)
Pair = tuple[np.ndarray, Any]  # features (examples, …), labels
Score = Callable[[Any, Any], float]  # (predicted, labels) -> score; higher is better


@dataclasses.dataclass(frozen=True)
class Chosen:
    """A fitted classifier and the setting that was chosen for it.

    Attributes:
      estimator: the scikit-learn estimator, fitted on the training set.
      setting: the setting with the highest validation score, the first one if there are several.
      scores: the validation score of every setting.
    """

    estimator: Any
    setting: Any
    scores: Mapping[Any, float]

    def predict(self, features: np.ndarray) -> Any:
        """Returns the predicted labels of features (examples, …)."""
        return self.estimator.predict(flat(features))


def accuracy(predicted: Any, labels: Any) -> float:
    """Returns the fraction of correct predictions."""
    return float(np.mean(np.asarray(predicted) == np.asarray(labels)))


def flat(features: np.ndarray) -> np.ndarray:
    """Concatenates the vectors of each example: (examples, vectors, hidden) to float64 (examples, vectors · hidden)."""
    return np.asarray(features, np.float64).reshape(len(features), -1)


def concatenated(*features: np.ndarray) -> np.ndarray:
    """Concatenates features of several backbones or layers.

    Each array is first scaled to a mean square of 1 over all of its entries, so that all have the same scale.

    Args:
      features: arrays (examples, …), all of the same examples.

    Returns:
      float64 (examples, total features).

    Raises:
      TlxError: if the numbers of examples differ.
    """
    rows = {len(array) for array in features}
    if len(rows) != 1:
        raise TlxError(f"features of {sorted(rows)} examples cannot be concatenated; the examples must be the same.")
    arrays = [flat(array) for array in features]
    return np.concatenate([array / max(float(np.sqrt(np.mean(array**2))), 1e-12) for array in arrays], axis=1)


def linear_probe(
    train: Pair, validation: Pair, strengths: Sequence[float] = STRENGTHS, score: Score = accuracy
) -> Chosen:
    """Fits logistic regression by L-BFGS on standardized features.

    Args:
      train: features and labels of the training set.
      validation: features and labels of the validation set.
      strengths: values of λ in `mean cross entropy + λ/2 |W|²`; the bias is not regularized. Among equal scores the
        largest λ is chosen.
      score: the score by which λ is chosen.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def estimator(strength: float) -> Any:
        c = 1 / (strength * len(train[0]))  # scikit-learn's C is the weight of the sum of the losses
        return make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=2000, tol=1e-6))

    estimators = {strength: estimator(strength) for strength in sorted(strengths, reverse=True)}
    return choose(estimators, train, validation, score)


def neighbours(
    train: Pair, validation: Pair, counts: Sequence[int] = COUNTS, metric: str = "cosine", score: Score = accuracy
) -> Chosen:
    """Fits a k-nearest-neighbors classifier.

    Args:
      train: features and labels of the training set.
      validation: features and labels of the validation set.
      counts: values of k; those above the number of training examples are skipped.
      metric: the distance, by scikit-learn's name.
      score: the score by which k is chosen.
    """
    from sklearn.neighbors import KNeighborsClassifier

    possible = [count for count in counts if count <= len(train[0])]
    estimators = {count: KNeighborsClassifier(count, metric=metric, algorithm="brute") for count in possible}
    return choose(estimators, train, validation, score)


def prototypes(train: Pair, validation: Pair, score: Score = accuracy) -> Chosen:
    """Fits a nearest-class-mean classifier (Snell et al. 2017, eq. 1).

    Args:
      train: features and labels of the training set.
      validation: features and labels of the validation set.
      score: the score that decides whether features are scaled to length 1.
    """
    from sklearn.neighbors import NearestCentroid
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import Normalizer

    estimators = {"as they are": NearestCentroid(), "of length 1": make_pipeline(Normalizer(), NearestCentroid())}
    return choose(estimators, train, validation, score)


def choose(estimators: Mapping[Any, Any], train: Pair, validation: Pair, score: Score = accuracy) -> Chosen:
    """Fits every estimator on the training set and returns the one with the highest validation score.

    Args:
      estimators: scikit-learn estimators by setting.
      train: features and labels of the training set.
      validation: features and labels of the validation set.
      score: the score; higher is better.

    Raises:
      TlxError: if there is no estimator.
    """
    if not estimators:
        raise TlxError(f"there is no setting to choose from for {len(train[0])} training examples.")
    train_features, validation_features = flat(train[0]), flat(validation[0])
    fitted = {setting: estimator.fit(train_features, train[1]) for setting, estimator in estimators.items()}
    scores = {
        setting: score(estimator.predict(validation_features), validation[1]) for setting, estimator in fitted.items()
    }
    best = max(scores, key=lambda setting: scores[setting])
    return Chosen(fitted[best], best, scores)
