"""Classical classifiers on features, their one setting chosen on validation: linear probe, neighbours, prototypes.

scikit-learn's, for they are well kept, count in float64 and converge to a stated tolerance: what a probe says of a
backbone is then no matter of steps and rates. Its logistic regression is solved by L-BFGS (Liu & Nocedal 1989), as in
the linear probes of CLIP (Radford et al. 2021, A.3); optax's L-BFGS serves where more than the classifier is learnt
(`mix.py`).
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tlx.errors import TlxError

STRENGTHS = tuple(10.0**power for power in range(-4, 5))
COUNTS = (1, 3, 5, 10, 20, 50)
Pair = tuple[np.ndarray, Any]  # features (examples, …), labels
Score = Callable[[Any, Any], float]  # (predicted, labels) to what is made large


@dataclasses.dataclass(frozen=True)
class Chosen:
    """estimator: fitted on train. setting: what validation chose. scores: of each setting, on validation; the first
    of equal ones is taken."""

    estimator: Any
    setting: Any
    scores: Mapping[Any, float]

    def predict(self, features: np.ndarray) -> Any:
        """Labels."""
        return self.estimator.predict(flat(features))


def accuracy(predicted: Any, labels: Any) -> float:
    """The share that is right."""
    return float(np.mean(np.asarray(predicted) == np.asarray(labels)))


def flat(features: np.ndarray) -> np.ndarray:
    """Layers side by side: (examples, vectors, hidden) to float64 (examples, vectors · hidden)."""
    return np.asarray(features, np.float64).reshape(len(features), -1)


def concatenated(*features: np.ndarray) -> np.ndarray:
    """Features of several backbones or layers side by side, each standardised to a mean square of 1 over all of its
    entries, so that none outweighs the others by its scale."""
    rows = {len(each) for each in features}
    if len(rows) != 1:
        raise TlxError(f"features of {sorted(rows)} examples cannot stand side by side; they are of the same ones.")
    parts = [flat(each) for each in features]
    return np.concatenate([part / max(float(np.sqrt(np.mean(part**2))), 1e-12) for part in parts], axis=1)


def linear_probe(
    train: Pair, validation: Pair, strengths: Sequence[float] = STRENGTHS, score: Score = accuracy
) -> Chosen:
    """Logistic regression by L-BFGS on standardised features.

    strengths: λ of `mean cross entropy + λ/2 |W|²`; the bias is not shrunk. From the weakest model on, so that of
    equally good ones the most regular is taken.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def made(strength: float) -> Any:
        c = 1 / (strength * len(train[0]))  # scikit-learn's C weighs the sum of the losses
        return make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=2000, tol=1e-6))

    return choose({strength: made(strength) for strength in sorted(strengths, reverse=True)}, train, validation, score)


def neighbours(
    train: Pair, validation: Pair, counts: Sequence[int] = COUNTS, metric: str = "cosine", score: Score = accuracy
) -> Chosen:
    """The vote of the nearest training examples. counts: of them, as far as there are so many."""
    from sklearn.neighbors import KNeighborsClassifier

    fitting = [count for count in counts if count <= len(train[0])]
    made = {count: KNeighborsClassifier(count, metric=metric, algorithm="brute") for count in fitting}
    return choose(made, train, validation, score)


def prototypes(train: Pair, validation: Pair, score: Score = accuracy) -> Chosen:
    """The class whose mean is nearest (Snell et al. 2017, eq. 1), of features as they are or scaled to length 1."""
    from sklearn.neighbors import NearestCentroid
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import Normalizer

    made = {"as they are": NearestCentroid(), "of length 1": make_pipeline(Normalizer(), NearestCentroid())}
    return choose(made, train, validation, score)


def choose(estimators: Mapping[Any, Any], train: Pair, validation: Pair, score: Score = accuracy) -> Chosen:
    """Fits each on train and takes the one that scores best on validation; test is not seen."""
    if not estimators:
        raise TlxError(f"there is no setting to choose from for {len(train[0])} training examples.")
    features, seen = flat(train[0]), flat(validation[0])
    fitted = {setting: estimator.fit(features, train[1]) for setting, estimator in estimators.items()}
    scores = {setting: score(estimator.predict(seen), validation[1]) for setting, estimator in fitted.items()}
    best = max(scores, key=lambda setting: scores[setting])
    return Chosen(fitted[best], best, scores)
