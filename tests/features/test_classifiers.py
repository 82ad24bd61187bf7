"""The probe against another solver, the mix against NumPy and scikit-learn, choices against their scores."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import logsumexp

from tlx.errors import TlxError
from tlx.features import classifiers
from tlx.features.mix import fit_mix, scalar_mix


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    """Three classes, which a plane in six dimensions parts in the main."""
    random = np.random.default_rng(0)
    x = random.normal(size=(150, 6)) * [1, 3, 1, 1, 0.2, 1] + 2
    y = ((x - 2) @ random.normal(size=(6, 3)) + random.normal(size=(150, 3))).argmax(1)
    return x, np.array(["a", "b", "c"])[y]


def objective(w: np.ndarray, x: np.ndarray, y: np.ndarray, strength: float) -> float:
    kernel, bias = w[:-3].reshape(x.shape[1], 3), w[-3:]
    predictions = x @ kernel + bias
    losses = logsumexp(predictions, axis=1) - predictions[np.arange(len(y)), y]
    return float(losses.mean() + strength / 2 * (kernel**2).sum())


def test_probe_is_the_minimum(data: tuple[np.ndarray, np.ndarray]) -> None:
    """Of the objective as its docstring has it, found by a solver without gradients of ours."""
    x, names = data
    y = np.unique(names, return_inverse=True)[1]
    chosen = classifiers.linear_probe((x[:100, None], names[:100]), (x[100:], names[100:]), strengths=(0.05,))
    scaled = (x[:100] - x[:100].mean(0)) / x[:100].std(0)
    found = minimize(objective, np.zeros(21), (scaled, y[:100], 0.05), tol=1e-10)
    probe = chosen.estimator[-1]
    np.testing.assert_allclose(probe.coef_.T, found.x[:-3].reshape(6, 3), atol=1e-4)
    difference = probe.intercept_ - found.x[-3:]  # a constant for all classes changes nothing
    np.testing.assert_allclose(difference, difference.mean(), atol=1e-4)


def test_choices(data: tuple[np.ndarray, np.ndarray]) -> None:
    x, names = data
    train, validation = (x[:100], names[:100]), (x[100:], names[100:])
    for fit in (classifiers.linear_probe, classifiers.neighbours, classifiers.prototypes):
        chosen = fit(train, validation)
        assert chosen.scores[chosen.setting] == max(chosen.scores.values())
        right = np.mean(chosen.predict(x[100:]) == names[100:])
        assert right == chosen.scores[chosen.setting] > 0.4
    probes = classifiers.linear_probe(train, validation)
    assert len(probes.scores) == len(classifiers.STRENGTHS) and len(set(probes.scores.values())) > 1
    near = classifiers.neighbours(train, validation, counts=(1, 5, 101), metric="euclidean")
    assert set(near.scores) == {1, 5}  # no more than there are
    distances = np.linalg.norm(x[100:, None] - x[None, :100], axis=-1)
    assert near.scores[1] == np.mean(names[distances.argmin(1)] == names[100:])
    means = np.stack([x[:100][names[:100] == name].mean(0) for name in "abc"])
    nearest = np.array(["a", "b", "c"])[np.linalg.norm(x[100:, None] - means, axis=-1).argmin(1)]
    assert classifiers.prototypes(train, validation).scores["as they are"] == np.mean(nearest == names[100:])
    with pytest.raises(TlxError, match="no setting to choose from for 100 training examples"):
        classifiers.neighbours(train, validation, counts=(200,))


def test_side_by_side() -> None:
    random = np.random.default_rng(0)
    one, other = random.normal(size=(5, 3)), 100 * random.normal(size=(5, 2, 2))
    both = classifiers.concatenated(one, other)
    np.testing.assert_allclose(both[:, :3], one / np.sqrt((one**2).mean()))
    np.testing.assert_allclose(both[:, 3:], other.reshape(5, 4) / np.sqrt((other**2).mean()))
    with pytest.raises(TlxError, match=r"features of \[4, 5\] examples cannot be concatenated"):
        classifiers.concatenated(one, other[:4])


def test_mix_by_hand() -> None:
    random = np.random.default_rng(0)
    logits, layers = random.normal(size=3), random.normal(size=(2, 5, 3, 4))
    weights = np.exp(logits) / np.exp(logits).sum()
    expected = 1.5 * sum(weight * layers[..., i, :] for i, weight in enumerate(weights))
    mixed = scalar_mix(jnp.asarray(logits), jnp.asarray(1.5), jnp.asarray(layers))
    np.testing.assert_allclose(mixed, expected, rtol=1e-5)


def test_fitted_mix(data: tuple[np.ndarray, np.ndarray], x64: Any) -> None:
    """It finds the layer that tells the classes, and there is no slope left where it stops."""
    x, names = data
    random = np.random.default_rng(1)
    layers = np.stack([random.normal(size=x.shape), (x - x.mean(0)) / x.std(0), random.normal(size=x.shape)], axis=1)
    fitted = fit_mix(layers, names, strength=0.01, tolerance=1e-7)
    assert fitted.weights[1] > 0.8 and fitted.weights.sum() == pytest.approx(1)
    assert fitted.steps < 500 and fitted.classes == ("a", "b", "c")
    assert np.mean(fitted.predict(layers) == names) > 0.8
    y, flat = np.unique(names, return_inverse=True)[1], jax.tree.flatten(fitted.params)

    def value(w: np.ndarray) -> float:
        parts = np.split(w, np.cumsum([leaf.size for leaf in flat[0]])[:-1])
        p = jax.tree.unflatten(flat[1], [v.reshape(leaf.shape) for v, leaf in zip(parts, flat[0], strict=True)])
        weights = np.exp(p["logits"]) / np.exp(p["logits"]).sum()
        mixed = p["gamma"] * np.einsum("l,nlh->nh", weights, layers)
        return objective(np.concatenate([p["kernel"].ravel(), p["bias"]]), mixed, y, 0.01) + 0.005 * float(
            (p["gamma"] - 1) ** 2
        )

    at = np.concatenate([np.ravel(leaf) for leaf in flat[0]])
    assert fitted.loss == pytest.approx(value(at), rel=1e-9)
    slope = [(value(at + 1e-5 * e) - value(at - 1e-5 * e)) / 2e-5 for e in np.eye(len(at))]
    assert np.abs(slope).max() < 1e-6
    with pytest.raises(
        TlxError, match=r"a scalar mix needs layers of shape \(examples, layers, hidden\); found \(150, 6\)"
    ):
        fit_mix(x, names)
