"""Losses against NumPy's word for their definitions."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tlx.losses.supervised import binary_cross_entropy, cross_entropy, span_cross_entropy, squared_error

RANDOM = np.random.default_rng(0)
LOGITS = RANDOM.normal(size=(7, 4)) * 3
LABELS = RANDOM.integers(0, 4, 7)
WEIGHT = np.array([1, 1, 0, 1, 0.5, 1, 0])


def log_softmax(x: np.ndarray) -> np.ndarray:
    return x - np.log(np.exp(x - x.max(-1, keepdims=True)).sum(-1, keepdims=True)) - x.max(-1, keepdims=True)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("weights", [(), (1.0, 2.0, 0.5, 3.0)])
def test_cross_entropy(x64: None, smoothing: float, weights: tuple[float, ...]) -> None:
    total, count = cross_entropy(jnp.asarray(LOGITS), jnp.asarray(LABELS), jnp.asarray(WEIGHT), smoothing, weights)
    logs = log_softmax(LOGITS)
    each = -(1 - smoothing) * logs[np.arange(7), LABELS] - smoothing * logs.mean(-1)
    weight = WEIGHT * (np.array(weights)[LABELS] if weights else 1)
    np.testing.assert_allclose(total, (each * weight).sum(), rtol=1e-12)
    np.testing.assert_allclose(count, weight.sum(), rtol=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [(), (1.0, 2.0, 0.5, 3.0)])
def test_a_label_of_weight_0_may_be_any_number(smoothing: float, weights: tuple[float, ...]) -> None:
    """-100, which Hugging Face's data sets write, changes neither the loss nor its gradient."""
    odd = np.where(WEIGHT == 0, -100, LABELS)

    def mean(logits: Any, labels: np.ndarray) -> Any:
        total, count = cross_entropy(logits, jnp.asarray(labels), jnp.asarray(WEIGHT), smoothing, weights)
        return total / count

    kept = WEIGHT > 0
    logs = log_softmax(LOGITS[kept])
    each = -(1 - smoothing) * logs[np.arange(kept.sum()), LABELS[kept]] - smoothing * logs.mean(-1)
    weight = WEIGHT[kept] * (np.array(weights)[LABELS[kept]] if weights else 1)
    value, gradient = jax.value_and_grad(mean)(jnp.asarray(LOGITS), odd)
    np.testing.assert_allclose(value, (each * weight).sum() / weight.sum(), rtol=1e-5)
    assert np.isfinite(gradient).all() and not gradient[~kept].any()


def test_cross_entropy_of_tokens_is_that_of_all_tokens_in_a_row(x64: None) -> None:
    logits, labels, weight = RANDOM.normal(size=(2, 5, 3)), RANDOM.integers(0, 3, (2, 5)), RANDOM.integers(0, 2, (2, 5))
    flat = cross_entropy(*map(jnp.asarray, (logits.reshape(10, 3), labels.ravel(), weight.ravel())), 0.1)
    np.testing.assert_allclose(cross_entropy(*map(jnp.asarray, (logits, labels, weight)), 0.1), flat, rtol=1e-12)


@pytest.mark.parametrize("weights", [(), (1.0, 2.0, 0.5, 3.0)])
def test_binary_cross_entropy(x64: None, weights: tuple[float, ...]) -> None:
    labels = RANDOM.integers(0, 2, (7, 4))
    arrays: Any = map(jnp.asarray, (LOGITS, labels, WEIGHT))
    total, count = binary_cross_entropy(*arrays, weights)
    p = 1 / (1 + np.exp(-LOGITS))
    each = -(np.array(weights or 1.0) * labels * np.log(p) + (1 - labels) * np.log(1 - p)).mean(-1)
    np.testing.assert_allclose(total, (each * WEIGHT).sum(), rtol=1e-9)
    assert float(count) == WEIGHT.sum()


def test_squared_error(x64: None) -> None:
    targets = RANDOM.normal(size=(7, 4))
    total, count = squared_error(jnp.asarray(LOGITS), jnp.asarray(targets), jnp.asarray(WEIGHT))
    np.testing.assert_allclose(total, (((LOGITS - targets) ** 2).mean(-1) * WEIGHT).sum(), rtol=1e-12)
    assert float(count) == WEIGHT.sum()


def test_soft_labels_are_the_mean_of_the_hard_ones() -> None:
    """Cross entropy is linear in q: of 0.3 of one class and 0.7 of another it is 0.3 and 0.7 of the two losses."""
    random = np.random.default_rng(0)
    logits, one, other = random.normal(size=(6, 4)), random.integers(0, 4, 6), random.integers(0, 4, 6)
    q = 0.3 * np.eye(4)[one] + 0.7 * np.eye(4)[other]
    weight = np.array([1.0, 0.0, 1.0, 0.5, 1.0, 1.0])
    for smoothing in (0.0, 0.2):
        soft, count = cross_entropy(jnp.asarray(logits), jnp.asarray(q), jnp.asarray(weight), smoothing)
        hard = [
            cross_entropy(jnp.asarray(logits), jnp.asarray(labels), jnp.asarray(weight), smoothing)[0]
            for labels in (one, other)
        ]
        np.testing.assert_allclose(soft, 0.3 * hard[0] + 0.7 * hard[1], rtol=1e-5)
        assert count == weight.sum()
    weights = (1.0, 2.0, 3.0, 4.0)
    _, count = cross_entropy(jnp.asarray(logits), jnp.asarray(q), jnp.asarray(weight), class_weights=weights)
    expected = sum(weight * (0.3 * np.array(weights)[one] + 0.7 * np.array(weights)[other]))
    np.testing.assert_allclose(count, expected, rtol=1e-6)


def test_span_cross_entropy_is_scipys_of_each_window_and_the_same_packed() -> None:
    from scipy.special import log_softmax

    random = np.random.default_rng(0)
    lengths = [5, 3, 7, 4]
    logits, ends = [3 * random.normal(size=(n, 2)) for n in lengths], [random.integers(0, n, 2) for n in lengths]
    losses = [
        -(log_softmax(one, axis=0)[first, 0] + log_softmax(one, axis=0)[last, 1]) / 2
        for one, (first, last) in zip(logits, ends, strict=True)
    ]
    loss = jax.jit(jax.value_and_grad(span_cross_entropy, has_aux=True))
    for rows in ([[0], [1], [2], [3]], [[0, 1], [2], [3], []], [[2, 1], [], [], [3, 0]]):
        scores = random.normal(size=(len(rows), 12, 2)) * 100  # those of padding do not count
        labels, window = np.zeros_like(scores, np.int8), np.zeros(scores.shape[:2], np.int32)
        for row, texts in enumerate(rows):
            at = 0
            for number, text in enumerate(texts, 1):
                stop = at + lengths[text]
                scores[row, at:stop], window[row, at:stop] = logits[text], number
                labels[row, at + ends[text], [0, 1]] = 1
                at = stop
        (total, count), gradient = loss(jnp.asarray(scores), jnp.asarray(labels), jnp.asarray(window))
        used = [losses[text] for texts in rows for text in texts]
        assert float(count) == len(used)
        np.testing.assert_allclose(total, sum(used), rtol=1e-5)
        assert np.isfinite(gradient).all() and not np.asarray(gradient)[window == 0].any()
