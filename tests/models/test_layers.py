"""Dropout's masks against the binomial law, and the edges of what dropout and heads take."""

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from tests.models.reference import reference
from tlx.errors import TlxError
from tlx.models.heads import Head
from tlx.models.layers import Dropout, Embedding, keep_mask
from tlx.models.model import build_model

pytestmark = pytest.mark.usefixtures("full_precision")
SIGMAS = 4.5  # beyond which a sound mask falls once in 150 000 draws


@pytest.mark.parametrize("rate", [0.1, 0.37, 0.5, 0.9])
@pytest.mark.parametrize("shape", [(64, 1024), (1024, 63), (40001,)])
def test_kept_are_binomial(rate: float, shape: tuple[int, ...]) -> None:
    keep, probability = keep_mask(jax.random.key(7), rate, shape)
    assert abs(probability - (1 - rate)) <= 0.5 / 65536
    count, n = int(keep.sum()), math.prod(shape)
    assert abs(count - n * probability) < SIGMAS * math.sqrt(n * probability * (1 - probability))


@pytest.mark.parametrize("apart", [1, 2, 3])
def test_neighbours_are_independent(apart: int) -> None:
    """Two elements come from one draw of 32 bits: how often neighbours agree must show none of it."""
    keep, p = keep_mask(jax.random.key(3), 0.3, (256, 1024))
    agree = np.asarray(keep[:, apart:] == keep[:, :-apart])
    if apart == 1:
        agree = agree[:, ::2]  # the pairs themselves; overlapping pairs would not be independent of each other
    expected = p**2 + (1 - p) ** 2
    deviation = abs(agree.mean() - expected) / math.sqrt(expected * (1 - expected) / agree.size)
    assert deviation < SIGMAS * (1 if apart == 1 else math.sqrt(2))


def assert_independent(one: Any, other: Any, rate: float) -> None:
    """How often two masks agree is what chance makes of it."""
    expected = rate**2 + (1 - rate) ** 2
    spread = math.sqrt(expected * (1 - expected) / one.size)
    assert abs(float((one == other).mean()) - expected) < SIGMAS * spread


@pytest.mark.parametrize("keys", [(0, 1), (1, 2), (0, 2**31)])
def test_another_key_another_mask(keys: tuple[int, int]) -> None:
    one, other = (keep_mask(jax.random.key(seed), 0.3, (64, 1024))[0] for seed in keys)
    assert_independent(one, other, 0.3)
    step, next_ = (keep_mask(jax.random.fold_in(jax.random.key(0), step), 0.3, (64, 1024))[0] for step in keys)
    assert_independent(step, next_, 0.3)


@pytest.mark.parametrize("shape", [(2, 64, 1024), (4, 12, 33, 33)])
def test_rows_and_columns_are_independent(shape: tuple[int, ...]) -> None:
    keep, _ = keep_mask(jax.random.key(5), 0.3, shape)
    for axis in range(len(shape) - 1):
        half = shape[axis] // 2
        assert_independent(*jnp.split(jnp.take(keep, jnp.arange(2 * half), axis), 2, axis), 0.3)


def test_sites_are_independent() -> None:
    class Sites(nn.Module):
        def setup(self) -> None:
            self.layer = [Dropout(0.3) for _ in range(3)]

        def __call__(self, x: jax.Array) -> list[jax.Array]:
            return [layer(x, False) != 0 for layer in self.layer]

    masks = Sites().apply({}, jnp.ones((64, 1024)), rngs={"dropout": jax.random.key(0)})
    for one, other in itertools.combinations(masks, 2):
        assert_independent(one, other, 0.3)


@pytest.mark.parametrize("rate", [1e-6, 1e-5, 0.999999])
@pytest.mark.parametrize("shape", [(128, 512), (511,)])
def test_extreme_rates(rate: float, shape: tuple[int, ...]) -> None:
    keep, probability = keep_mask(jax.random.key(0), rate, shape)
    assert 0 < probability <= 1
    n = math.prod(shape)
    spread = SIGMAS * math.sqrt(n * probability * (1 - probability)) + 1
    assert abs(int(keep.sum()) - n * probability) <= spread


def test_dropout_keeps_the_mean_and_scales_what_is_kept() -> None:
    x = jnp.full((256, 1024), 3.0)
    y = np.asarray(Dropout(0.25).apply({}, x, False, rngs={"dropout": jax.random.key(1)}))
    kept = y[y != 0]
    np.testing.assert_allclose(kept, 3 / 0.75, rtol=1e-6)
    assert abs(y.mean() - 3) < SIGMAS * 3 * math.sqrt(0.25 / 0.75 / y.size)


@pytest.mark.parametrize(("rate", "deterministic"), [(0.0, False), (0.5, True)])
def test_dropout_that_does_nothing_needs_no_key(rate: float, deterministic: bool) -> None:
    x = jnp.arange(6.0)
    assert Dropout(rate).apply({}, x, deterministic) is x


@pytest.mark.parametrize("padding_id", [2, -1])
def test_padding_row_starts_at_zero_like_torchs(padding_id: int) -> None:
    table = Embedding(5, 8, None, 0.5, padding_id).init(jax.random.key(0), jnp.zeros(1, jnp.int32))["params"][
        "embedding"
    ]
    zero = np.flatnonzero(~np.asarray(table).any(axis=1))
    assert zero.tolist() == [padding_id % 5]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "ranking", "outputs": 2}, "head kind is 'ranking'; tlx has classification, multilabel, regression"),
        ({"kind": "regression", "outputs": 0}, "at least one output, found 0"),
        ({"kind": "regression", "outputs": 1, "pooling": "max"}, "head pooling is 'max'; tlx has pooler, cls"),
        ({"kind": "classification", "outputs": 2, "labels": ("a",)}, "a head with 2 outputs has 1 labels"),
        ({"kind": "regression", "outputs": 1, "scale": (1.0, 2.0)}, "a head with 1 outputs has 2 scale"),
    ],
)
def test_refused_heads(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(TlxError, match=message):
        Head(**arguments)


def test_several_heads_each_answer() -> None:
    """Shift and scale by hand, pooling by the first token against the reference's last hidden state."""
    given = reference("bert/base")
    backbone, params = given.load(jnp.float32)
    heads = {
        "labels": Head("classification", 3),
        "score": Head("regression", 2, pooling="cls", shift=(1.0, -2.0), scale=(3.0, 0.5)),
    }
    model = build_model(backbone.backbone.config, heads)
    random = np.random.RandomState(0)
    weights = {name: random.standard_normal((32, outputs)) for name, outputs in (("labels", 3), ("score", 2))}
    params["heads"] = {
        name: {"output": {"kernel": jnp.asarray(w, jnp.float32), "bias": jnp.full(w.shape[1], 0.25)}}
        for name, w in weights.items()
    }
    logits = model.apply({"params": params}, **given.inputs).logits
    assert logits.keys() == heads.keys()
    expected = given.group("output")
    np.testing.assert_allclose(logits["labels"], expected["pooler_output"] @ weights["labels"] + 0.25, atol=1e-4)
    raw = expected["hidden_states/2"][:, 0] @ weights["score"] + 0.25
    np.testing.assert_allclose(logits["score"], raw * [3.0, 0.5] + [1.0, -2.0], atol=1e-4)


def test_head_that_needs_a_pooler_says_so() -> None:
    given = reference("bert/base_no_pooler")
    backbone, params = given.load(jnp.float32)
    model = build_model(backbone.backbone.config, {"default": Head("classification", 2)})
    with pytest.raises(TlxError, match="uses the pooler, but this backbone has none; set pooling='cls'"):
        model.apply({"params": params}, **given.inputs)
