"""Validators: numbers that choose a model for a target domain without a label of the target.

A validator reads what a model makes of labelled source examples that it was not trained on, and of unlabelled target
examples. None is right always: each docstring says what is assumed and how it is deceived.
"""

import dataclasses
import functools
from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import entr, log_softmax, softmax

from tlx.evaluation.domains import density_ratio
from tlx.losses.mmd import mk_mmd

MMD_ROWS = 1000  # the discrepancy is that of at most so many rows of each domain
SND_ROWS = 1024  # rows of the similarity matrix that are held at a time


@dataclasses.dataclass(frozen=True)
class Outputs:
    """What a model makes of both domains.

    Attributes:
      source_features: (n, hidden), of source examples that were not trained on; what the head reads.
      source_logits: (n, classes).
      source_labels: integers (n,).
      target_features: (m, hidden), of target examples.
      target_logits: (m, classes).
    """

    source_features: np.ndarray
    source_logits: np.ndarray
    source_labels: np.ndarray
    target_features: np.ndarray
    target_logits: np.ndarray

    def __post_init__(self) -> None:
        chex.assert_equal_shape_prefix([self.source_features, self.source_logits, self.source_labels], 1)
        chex.assert_equal_shape_prefix([self.target_features, self.target_logits], 1)
        chex.assert_equal(self.source_features.shape[1:], self.target_features.shape[1:])
        chex.assert_equal(self.source_logits.shape[1:], self.target_logits.shape[1:])


def source_losses(outputs: Outputs) -> np.ndarray:
    """The cross entropy of each source example, float64 (n,), in nats."""
    log_p = log_softmax(np.asarray(outputs.source_logits, np.float64), axis=1)
    found: np.ndarray = -log_p[np.arange(len(log_p)), outputs.source_labels]
    return found


def source_risk(outputs: Outputs) -> float:
    """The mean cross entropy on the source. It does not see the target, and prefers models that do not adapt."""
    return float(source_losses(outputs).mean())


def importance_weighted_risk(outputs: Outputs) -> float:
    """IWCV (Sugiyama et al. 2007): the mean of w times the cross entropy on the source, w = p_target / p_source.

    It estimates the target's risk under covariate shift, if labels depend on features alike in both domains and the
    target lies where there are source examples. Few rows with large weights make it noisy.
    """
    weights = density_ratio(outputs.source_features, outputs.target_features)
    return float((weights * source_losses(outputs)).mean())


def deep_embedded_validation(outputs: Outputs) -> float:
    """DEV (You et al. 2019): IWCV with a control variate, which lowers its variance.

    mean(w ℓ) + η (mean(w) − 1), with η = −Cov(w ℓ, w) / Var(w); the mean of w is 1 for the true weights. It assumes
    what IWCV does. It has no bounds: it may be below 0.
    """
    weights = density_ratio(outputs.source_features, outputs.target_features)
    return control_variate(weights * source_losses(outputs), weights)


def control_variate(weighted: np.ndarray, weights: np.ndarray) -> float:
    """mean(L) + η (mean(w) − 1), where η = −Cov(L, w) / Var(w); mean(L) if all weights are the same.

    Args:
      weighted: L = w ℓ, (n,).
      weights: w, (n,).
    """
    covariance = np.cov(weighted, weights)
    eta = -covariance[0, 1] / covariance[1, 1] if covariance[1, 1] > 0 else 0.0
    return float(weighted.mean() + eta * (weights.mean() - 1))


def target_entropy(outputs: Outputs) -> float:
    """The mean entropy of the target's predictions, in nats. A model that is sure of one class for all rows is best."""
    log_p = log_softmax(np.asarray(outputs.target_logits, np.float64), axis=1)
    return float(-(np.exp(log_p) * log_p).sum(axis=1).mean())


def target_information(outputs: Outputs) -> float:
    """`losses.information_maximization` of the target: certain predictions, equally many of each class.

    It is deceived where certain predictions are wrong, and by class frequencies that are not equal.
    """
    mean = softmax(np.asarray(outputs.target_logits, np.float64), axis=1).mean(axis=0)
    return target_entropy(outputs) - float(entr(mean).sum())


def soft_neighborhood_density(outputs: Outputs, temperature: float = 0.05) -> float:
    """SND (Saito et al. 2021): the mean entropy of a target row's similarities to all other target rows, in nats.

    Rows are the predicted probabilities, scaled to length 1; the similarities of a row are softmax(s / temperature)
    over the others. High if rows lie in dense groups. One group for all rows has the highest value, so that a model
    which predicts a single class deceives it.

    Args:
      outputs: at least two target rows.
      temperature: the paper's 0.05.

    Returns:
      From 0 to log(m − 1).
    """
    rows = softmax(np.asarray(outputs.target_logits, np.float64), axis=1)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    total = 0.0
    for start in range(0, len(rows), SND_ROWS):
        part = rows[start : start + SND_ROWS]
        similarity = part @ rows.T / temperature
        similarity[np.arange(len(part)), start + np.arange(len(part))] = -np.inf
        log_p = log_softmax(similarity, axis=1)
        p = np.exp(log_p)
        total -= np.sum(p * np.where(p > 0, log_p, 0))
    return float(total / len(rows))


def feature_discrepancy(outputs: Outputs) -> float:
    """The squared maximum mean discrepancy of the features (`losses.mk_mmd`, unbiased), which may be below 0.

    Of more than 1,000 rows of a domain, 1,000 are drawn, always the same. It does not see classes: features that are
    aligned with the wrong classes, or all alike, are best.
    """
    random = np.random.default_rng(0)
    domains = []
    for rows in (outputs.source_features, outputs.target_features):
        drawn = random.permutation(len(rows))[:MMD_ROWS]
        domains.append(jnp.asarray(np.asarray(rows)[drawn], jnp.float32))
    return float(_unbiased_mmd(*domains))


_unbiased_mmd = jax.jit(functools.partial(mk_mmd, estimator="unbiased"))


@dataclasses.dataclass(frozen=True)
class Validator:
    """A validator and its direction.

    Attributes:
      function: from `Outputs` to a number.
      higher: whether a higher number is better.
    """

    function: Callable[[Outputs], float]
    higher: bool = False

    def best(self, values: np.ndarray) -> int:
        """The index of the best value; the first of equal ones. NaN is never chosen unless all are NaN.

        Args:
          values: (models,).
        """
        signed = np.asarray(values, np.float64) * (1 if self.higher else -1)
        return int(np.argmax(np.where(np.isnan(signed), -np.inf, signed)))


VALIDATORS: dict[str, Validator] = {
    "source_risk": Validator(source_risk),
    "importance_weighted_risk": Validator(importance_weighted_risk),
    "deep_embedded_validation": Validator(deep_embedded_validation),
    "soft_neighborhood_density": Validator(soft_neighborhood_density, higher=True),
    "entropy": Validator(target_entropy),
    "information_maximization": Validator(target_information),
    "mmd": Validator(feature_discrepancy),
}


def validate(outputs: Outputs) -> dict[str, float]:
    """The value of every validator, by its name."""
    return {name: validator.function(outputs) for name, validator in VALIDATORS.items()}
