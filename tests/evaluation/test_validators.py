"""Validators against loops in NumPy, scikit-learn, and risks that are known because the distributions are."""

from typing import Any

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit, softmax
from sklearn.metrics import log_loss
from sklearn.metrics.pairwise import cosine_similarity

from tests.losses.test_mmd import FACTORS, bandwidth, estimate, mixed
from tlx.errors import TlxError
from tlx.evaluation import validators
from tlx.evaluation.domains import density_ratio, proxy_a_distance
from tlx.evaluation.validators import VALIDATORS, Outputs, control_variate, validate

SHIFT = 0.8


def outputs(seed: int = 0, rows: int = 60, **given: Any) -> Outputs:
    random = np.random.default_rng(seed)
    fields = {
        "source_features": random.normal(size=(rows, 3)),
        "source_logits": 2 * random.normal(size=(rows, 4)),
        "source_labels": random.integers(0, 4, rows),
        "target_features": random.normal(size=(rows + 5, 3)) + np.array([SHIFT, 0, 0]),
        "target_logits": 2 * random.normal(size=(rows + 5, 4)),
    }
    return Outputs(**{**fields, **given})


def test_each_against_its_definition() -> None:
    given = outputs(rows=12)
    found = validate(given)
    assert list(found) == list(VALIDATORS)
    p = softmax(given.target_logits, axis=1)
    expected = log_loss(given.source_labels, softmax(given.source_logits, axis=1), labels=range(4))
    np.testing.assert_allclose(found["source_risk"], expected, rtol=1e-10)
    np.testing.assert_allclose(found["entropy"], stats.entropy(p, axis=1).mean(), rtol=1e-10)
    information = stats.entropy(p, axis=1).mean() - stats.entropy(p.mean(axis=0))
    np.testing.assert_allclose(found["information_maximization"], information, rtol=1e-10)
    kernel = mixed(FACTORS, bandwidth(given.source_features, given.target_features, "median"))
    expected = estimate(kernel, given.source_features, given.target_features, "unbiased")
    np.testing.assert_allclose(found["mmd"], expected, rtol=1e-4)
    weights = density_ratio(given.source_features, given.target_features)
    losses = [-np.log(softmax(z)[y]) for z, y in zip(given.source_logits, given.source_labels)]
    np.testing.assert_allclose(
        found["importance_weighted_risk"], sum(w * loss for w, loss in zip(weights, losses)) / 12, rtol=1e-10
    )


@pytest.mark.parametrize("block", [7, 1024])
def test_soft_neighborhood_density(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(validators, "SND_ROWS", block)
    given = outputs()
    similarity = cosine_similarity(softmax(given.target_logits, axis=1)) / 0.05
    entropies = []
    for index, row in enumerate(similarity):
        entropies.append(stats.entropy(softmax(np.delete(row, index))))
    np.testing.assert_allclose(validators.soft_neighborhood_density(given), np.mean(entropies), rtol=1e-10)
    same = outputs(target_logits=np.tile([1.0, 2.0, 0.0, 0.0], (65, 1)))
    np.testing.assert_allclose(validators.soft_neighborhood_density(same), np.log(64), rtol=1e-12)
    certain = outputs(target_logits=1e4 * np.eye(4)[np.arange(65) % 4])  # log(0) is not taken
    assert np.isfinite(validators.soft_neighborhood_density(certain))


def test_the_control_variate() -> None:
    random = np.random.default_rng(2)
    w, loss = random.gamma(2.0, 0.5, 50), random.normal(size=50) + 1
    weighted = w * loss
    # the coefficient is the slope of least squares
    coefficient = np.polyfit(w, weighted, 1)[0]
    np.testing.assert_allclose(control_variate(weighted, w), weighted.mean() - coefficient * (w.mean() - 1), rtol=1e-10)
    assert control_variate(weighted, np.ones(50)) == weighted.mean()


def shifted(seed: int, rows: int) -> tuple[Outputs, float]:
    """Normal features of which the target's mean is moved, and a classifier whose risk on the target is known.

    The label is 1 with probability expit(2 x); the classifier says expit(x).
    """
    random = np.random.default_rng(seed)
    source, target = random.normal(size=(rows, 1)), random.normal(size=(rows, 1)) + SHIFT
    label = (random.random(rows) < expit(2 * source[:, 0])).astype(int)

    def logits(x: np.ndarray) -> np.ndarray:
        return np.concatenate([np.zeros_like(x), x], axis=1)

    grid = np.linspace(-9, 10, 20_001)
    p, density = expit(2 * grid), stats.norm.pdf(grid, SHIFT)
    risk = -np.sum(density * (p * np.log(expit(grid)) + (1 - p) * np.log(expit(-grid)))) * (grid[1] - grid[0])
    return Outputs(source, logits(source), label, target, logits(target)), float(risk)


def test_the_weighted_risks_estimate_the_risk_on_the_target() -> None:
    """The source's own risk does not."""
    found = {name: [] for name in ("source_risk", "importance_weighted_risk", "deep_embedded_validation")}
    risk = 0.0
    for seed in range(12):
        given, risk = shifted(seed, 1000)
        for name, values in found.items():
            values.append(VALIDATORS[name].function(given))
    of_source, weighted, variate = (np.array(found[name]) for name in found)
    assert abs(weighted.mean() - risk) < 0.02 and abs(variate.mean() - risk) < 0.02
    assert abs(of_source.mean() - risk) > 0.05


def test_the_control_variate_lowers_the_variance() -> None:
    """Most where losses vary less than the weights, whose mean is not 1 in a sample."""
    random, plain, corrected = np.random.default_rng(6), [], []
    for _ in range(200):
        weights = np.exp(SHIFT * random.normal(size=100) - SHIFT**2 / 2)
        weighted = weights * (0.7 + 0.1 * random.normal(size=100))
        plain.append(weighted.mean())
        corrected.append(control_variate(weighted, weights))
    assert np.std(corrected) < 0.4 * np.std(plain)
    np.testing.assert_allclose(np.mean(corrected), 0.7, atol=0.01)


def test_the_density_ratio_of_two_normals() -> None:
    """log p_target / p_source = s x − s² / 2."""
    random = np.random.default_rng(0)
    source, target = random.normal(size=(4000, 1)), random.normal(size=(2000, 1)) + SHIFT
    expected = np.exp(SHIFT * source[:, 0] - SHIFT**2 / 2)
    np.testing.assert_allclose(np.log(density_ratio(source, target)), np.log(expected), atol=0.25)
    np.testing.assert_allclose(density_ratio(source, target).mean(), 1, atol=0.05)


@pytest.mark.parametrize("shift", [0.0, 1.0, 3.0])
def test_the_proxy_a_distance_of_two_normals(shift: float) -> None:
    """The best error is that of half the shift, also for domains of different sizes."""
    random = np.random.default_rng(1)
    source, target = random.normal(size=(3000, 2)), random.normal(size=(1000, 2)) + np.array([shift, 0])
    expected = 2 * (1 - 2 * stats.norm.cdf(-shift / 2))
    np.testing.assert_allclose(proxy_a_distance(source, target), expected, atol=0.08)


def test_directions_and_ties() -> None:
    values = np.array([0.5, np.nan, 0.1, 0.9, 0.1])
    assert VALIDATORS["entropy"].best(values) == 2
    assert VALIDATORS["soft_neighborhood_density"].best(values) == 3
    assert {name for name, validator in VALIDATORS.items() if validator.higher} == {"soft_neighborhood_density"}


def test_a_better_model_is_better() -> None:
    """Of two models on separated target classes, one certain and one guessing, all that read predictions choose one."""
    random = np.random.default_rng(4)
    classes = random.integers(0, 4, 65)
    sharp = outputs(target_logits=8 * np.eye(4)[classes] + random.normal(size=(65, 4)))
    for name in ("entropy", "information_maximization", "soft_neighborhood_density"):
        validator = VALIDATORS[name]
        assert validator.best(np.array([validator.function(outputs()), validator.function(sharp)])) == 1, name


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(TlxError, match="4 and 70 rows"):
        density_ratio(np.zeros((4, 3)), np.zeros((70, 3)))
