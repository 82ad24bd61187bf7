"""Batches of features hold what batches of texts hold besides."""

import numpy as np

from tlx.data.examples import Examples
from tlx.data.words import Words
from tlx.features.compute import FeatureSet
from tlx.features.examples import FeatureExamples


def test_tagged_words() -> None:
    """Rows, labels by token and padding as `Examples` gives them; each token its own vector."""
    random = np.random.default_rng(0)
    offsets = np.array([0, 3, 5, 9])
    label, mask = random.integers(0, 5, 9, dtype=np.int32), random.integers(0, 2, 9, dtype=np.int32)
    texts = Examples(
        np.arange(9, dtype=np.int32), np.zeros(9, np.int32), offsets, {"group": np.array([7, 8, 9])},
        np.array([10, 20, 30]), 0, {"label": label, "label_mask": mask},
        Words(label[mask == 1], np.flatnonzero(mask), np.array([0, 1, 1, 2]), np.array([10, 20, 30]), 0),
    )  # fmt: skip
    values = random.normal(size=(9, 4)).astype(np.float32)
    examples = FeatureExamples(texts, FeatureSet(values, offsets), "hidden_state", True)
    rows = np.array([2, -1, 0])
    found, expected = examples.take(rows, 6), texts.take(rows, 6)
    assert found.keys() == expected.keys() - {"input_ids", "token_type_ids"} | {"hidden_state"}
    for name in found.keys() - {"hidden_state"}:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
    hidden = np.zeros((3, 6, 4), np.float32)
    hidden[0, :4], hidden[2, :3] = values[5:9], values[:3]
    np.testing.assert_array_equal(found["hidden_state"], hidden)
    pooled = FeatureExamples(texts, FeatureSet(values[:3, None], None), "pooled", True).take(rows, 6)
    np.testing.assert_array_equal(pooled["pooled"][[0, 2]], values[[2, 0], None])
    np.testing.assert_array_equal(pooled["valid"], [True, False, True])
    assert (examples.labels == texts.labels).all() and list(examples.content()) == list(texts.content())
