"""How far two domains are apart for a linear classifier: density ratios and the proxy A-distance.

The classifier is scikit-learn's logistic regression on standardized features. Every row is judged by a classifier that
was fitted without it (five folds), because a classifier knows the rows that it was fitted on.
"""

import numpy as np

from tlx.errors import TlxError

FOLDS = 5


def density_ratio(source: np.ndarray, target: np.ndarray, strength: float = 1.0) -> np.ndarray:
    """p_target / p_source at the rows of the source, by a classifier of the domains (Bickel et al. 2007).

    n_source / n_target · P(target | x) / P(source | x). It is right where the logarithm of the ratio is linear in the
    features. Where the domains are separated, the weights of most rows are near 0 and those of a few are huge.

    Args:
      source: (n, features), n at least 5.
      target: (m, features), m at least 5.
      strength: scikit-learn's C; smaller values regularize more.

    Returns:
      float64 (n,), at least 0.

    Raises:
      TlxError: if a domain has fewer than 5 rows.
    """
    log_odds = _log_odds(source, target, strength)[: len(source)]
    found: np.ndarray = len(source) / len(target) * np.exp(log_odds)
    return found


def proxy_a_distance(source: np.ndarray, target: np.ndarray, strength: float = 1.0) -> float:
    """2 (1 − 2 error), the error being that of a classifier of the domains (Ben-David et al. 2007).

    About 0 where no linear classifier tells the domains apart, 2 where one does so for every row. Both domains count
    alike, whatever their sizes. By chance it may be a little below 0.

    Args:
      source: (n, features), n at least 5.
      target: (m, features), m at least 5.
      strength: scikit-learn's C.

    Raises:
      TlxError: if a domain has fewer than 5 rows.
    """
    wrong = _log_odds(source, target, strength, balanced=True) > 0
    wrong[len(source) :] = ~wrong[len(source) :]
    error = (wrong[: len(source)].mean() + wrong[len(source) :].mean()) / 2
    return float(2 * (1 - 2 * error))


def _log_odds(source: np.ndarray, target: np.ndarray, strength: float, balanced: bool = False) -> np.ndarray:
    """log P(target | x) / P(source | x) of the source's rows and then the target's, (n + m,)."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if min(len(source), len(target)) < FOLDS:
        raise TlxError(
            f"the domains have {len(source)} and {len(target)} rows; to compare them each needs at least {FOLDS}."
        )
    rows = np.concatenate([np.asarray(rows, np.float64).reshape(len(rows), -1) for rows in (source, target)])
    is_target = np.arange(len(rows)) >= len(source)
    weights = "balanced" if balanced else None
    classifier = make_pipeline(
        StandardScaler(), LogisticRegression(C=strength, max_iter=2000, tol=1e-6, class_weight=weights)
    )
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    found: np.ndarray = cross_val_predict(classifier, rows, is_target, cv=folds, method="decision_function")
    return found
