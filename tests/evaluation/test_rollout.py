"""Attention rollout against the recursion written out, and what it must be whatever the attention."""

import numpy as np

from tlx.evaluation.rollout import rollout


def test_rollout() -> None:
    random = np.random.default_rng(0)
    attentions = [random.dirichlet(np.ones(5), size=(2, 3, 5)) for _ in range(4)]
    found = rollout(attentions)
    for image in range(2):
        expected = np.eye(5)
        for block in attentions:
            kept = np.array([[sum(block[image, h, i, j] for h in range(3)) / 3 for j in range(5)] for i in range(5)])
            kept += np.eye(5)
            expected = (kept / kept.sum(axis=1, keepdims=True)) @ expected
        np.testing.assert_allclose(found[image], expected, atol=1e-12)
    np.testing.assert_allclose(found.sum(-1), 1)


def test_who_looks_at_itself_alone_is_made_of_itself() -> None:
    np.testing.assert_array_equal(rollout([np.eye(3)[None, None]] * 2), np.eye(3)[None])
