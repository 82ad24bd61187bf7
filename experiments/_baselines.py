"""Classical baselines for a table. Settings are selected on validation."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

ALPHAS = tuple(10.0**power for power in range(-3, 4))
Inputs = Sequence[str] | np.ndarray


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A fitted baseline.

    Attributes:
      predictions: on the test split, (n, outputs).
      setting: the setting selected on validation.
      tried: the number of settings tried.
    """

    predictions: np.ndarray
    setting: str
    tried: int


def constant(targets: np.ndarray, count: int) -> Fitted:
    """Predicts the mean of the training targets for every example.

    Args:
      targets: (n, outputs).
      count: the number of test examples.
    """
    return Fitted(np.repeat(targets.mean(axis=0, keepdims=True), count, axis=0), "", 1)


def tfidf_ridge(words: bool, train: Any, validation: Any, test: Inputs, error: Callable[..., float]) -> Fitted:
    """Ridge regression on TF-IDF of words (1-2), or of characters within words (1-4).

    Args:
      words: words if True, else characters.
      train: (texts, targets).
      validation: (texts, targets).
      test: texts.
      error: from (predictions, targets) to the error that is minimized on validation.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = (
        TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"[^\s/-]+")
        if words
        else TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 4))
    )
    features = vectorizer.fit_transform(train[0])
    return ridge(
        (features, train[1]), (vectorizer.transform(validation[0]), validation[1]), vectorizer.transform(test), error
    )


def ridge(train: Any, validation: Any, test: Any, error: Callable[..., float]) -> Fitted:
    """Ridge regression on features; the penalty is selected from `ALPHAS` on validation."""
    from sklearn.linear_model import Ridge

    models = {alpha: Ridge(alpha=alpha).fit(*train) for alpha in ALPHAS}
    best = min(ALPHAS, key=lambda alpha: error(models[alpha].predict(validation[0]), validation[1]))
    return Fitted(models[best].predict(test), f"alpha={best:g}", len(ALPHAS))
