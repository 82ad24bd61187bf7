"""Metrics of regressions. Predictions and targets are (n, outputs)."""

from collections.abc import Callable

import numpy as np


def r2(predictions: np.ndarray, targets: np.ndarray) -> float:
    """1 - residual / total sum of squares, averaged uniformly over outputs.

    For constant targets, and for a single example, it is 1 if the predictions are exact, else 0 (scikit-learn's
    `force_finite`).
    """
    from sklearn.metrics import r2_score

    if len(targets) < 2:
        return float(np.array_equal(predictions, targets))
    return float(r2_score(targets, predictions, multioutput="uniform_average"))


def mean_error(predictions: np.ndarray, targets: np.ndarray) -> float:
    """The mean Euclidean distance from target to prediction.

    With one output it is the mean absolute error, for colours in CIELAB the mean ΔE76.
    """
    return float(np.linalg.norm(predictions - targets, axis=-1).mean())


def pearson(predictions: np.ndarray, targets: np.ndarray) -> float:
    """Pearson's correlation, averaged over outputs; 0 for an output whose predictions or targets are constant."""
    from scipy.stats import pearsonr

    return _mean_correlation(pearsonr, predictions, targets)


def spearman(predictions: np.ndarray, targets: np.ndarray) -> float:
    """Spearman's rank correlation, averaged over outputs; 0 for an output whose predictions or targets are constant."""
    from scipy.stats import spearmanr

    return _mean_correlation(spearmanr, predictions, targets)


def kendall(predictions: np.ndarray, targets: np.ndarray) -> float:
    """Kendall's tau-b, averaged over outputs; 0 for an output whose predictions or targets are constant."""
    from scipy.stats import kendalltau

    return _mean_correlation(kendalltau, predictions, targets)


def _mean_correlation(correlation: Callable[..., tuple[float, float]], a: np.ndarray, b: np.ndarray) -> float:
    values = [
        0.0 if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0 else float(correlation(x, y)[0])
        for x, y in zip(a.T.astype(np.float64), b.T.astype(np.float64), strict=True)
    ]
    return float(np.mean(np.nan_to_num(values)))
