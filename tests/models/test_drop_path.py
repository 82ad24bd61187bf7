"""Stochastic depth: blocks put together by hand from their parts, the mean over examples, what is off when."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.tiny import SMALL
from tlx.models import distilbert, pre_norm, transformer
from tlx.models.layers import DropPath, depth_rates
from tlx.models.model import build_model
from tlx.models.vit import ViTConfig
from tlx.pretrained.load import random_params

KEY = {"dropout": jax.random.key(4)}
TEXT = dataclasses.replace(SMALL, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
IMAGE = ViTConfig(
    hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, image_size=8, patch_size=4
)
DISTIL = distilbert.DistilBertConfig(
    vocab_size=32, dim=32, n_layers=2, n_heads=4, hidden_dim=48, dropout=0.0, attention_dropout=0.0
)
RATE, ROWS = 0.5, 48
X = jax.random.normal(jax.random.key(0), (ROWS, 5, 32))


def norm(x: np.ndarray, epsilon: float) -> np.ndarray:
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + epsilon)


def post_norm_by_hand(params: Any, attention: float, feed_forward: float) -> np.ndarray:
    """BERT's block; each branch times a factor. The norms' scales are 1 and their biases 0, as drawn."""
    mixed, _ = transformer.SelfAttention(TEXT).apply({"params": params["attention"]["self"]}, X, None, True)
    x = norm(X + attention * dense(params["attention"]["output"], mixed), 1e-12)
    wide = transformer.Intermediate(TEXT).apply({"params": params["intermediate"]}, x)
    return norm(x + feed_forward * dense(params["output"], wide), 1e-12)


def pre_norm_by_hand(params: Any, attention: float, feed_forward: float) -> np.ndarray:
    inner = params["attention"]["attention"]
    mixed, _ = transformer.SelfAttention(IMAGE).apply({"params": inner}, norm(X, 1e-12), None, True)
    x = X + attention * dense(params["attention"]["output"], mixed)
    wide = transformer.Intermediate(IMAGE).apply({"params": params["intermediate"]}, norm(x, 1e-12))
    return x + feed_forward * dense(params["output"], wide)


def distil_by_hand(params: Any, attention: float, feed_forward: float) -> np.ndarray:
    mixed, _ = distilbert.SelfAttention(DISTIL).apply({"params": params["attention"]}, X, None, True)
    x = norm(attention * mixed + X, 1e-12)
    wide = distilbert.FeedForward(DISTIL).apply({"params": params["ffn"]}, x, True)
    return norm(x + feed_forward * wide, 1e-12)


def dense(params: Any, x: Any) -> Any:
    return x @ params["dense"]["kernel"] + params["dense"]["bias"]


@pytest.mark.parametrize(
    ("block", "config", "by_hand"),
    [
        (transformer.Block, TEXT, post_norm_by_hand),
        (pre_norm.Block, IMAGE, pre_norm_by_hand),
        (distilbert.Block, DISTIL, distil_by_hand),
    ],
)
def test_each_example_has_each_branch_whole_or_not_at_all(block: Any, config: Any, by_hand: Any) -> None:
    """Every row is one of the four blocks by hand, the kept branches divided by 1 − rate; all four are met."""
    made = block(config, None, drop_path=RATE)
    params = made.init(jax.random.key(1), X, None, True)["params"]
    found, _ = made.apply({"params": params}, X, None, False, rngs=KEY)
    kept = 1 / (1 - RATE)
    four = np.stack([by_hand(params, a, f) for a in (0.0, kept) for f in (0.0, kept)])
    distance = np.abs(four - np.asarray(found)).max((2, 3))  # (four, rows)
    assert distance.min(0).max() < 1e-4
    assert (np.sort(distance, 0)[1] > 1e-2).all()
    assert set(distance.argmin(0)) == {0, 1, 2, 3}
    whole, _ = made.apply({"params": params}, X, None, True)
    np.testing.assert_allclose(whole, by_hand(params, 1.0, 1.0), atol=1e-4)


def test_it_keeps_the_mean() -> None:
    x = jnp.full((20_000, 1, 2), 3.0)
    y = np.asarray(DropPath(RATE).apply({}, x, False, rngs=KEY))
    assert np.array_equal(y[..., 0], y[..., 1])  # an example as a whole
    assert abs(y.mean() - 3) < 5 * 3 * math.sqrt(RATE / (1 - RATE) / len(x))


def test_the_rates_are_timms() -> None:
    """`[x.item() for x in torch.linspace(0, drop_path_rate, depth)]` in its VisionTransformer."""
    assert depth_rates(0.3, 4) == pytest.approx(np.linspace(0, 0.3, 4))
    assert depth_rates(0.3, 1) == (0.0,)


def test_in_a_model_the_first_block_and_frozen_ones_keep_all() -> None:
    """Of two blocks the last may be left out, at the whole rate; nothing is without dropout or where it is frozen."""
    model = build_model(dataclasses.replace(IMAGE, drop_path_rate=RATE), {})
    params = random_params(model, 0)
    images = jax.random.normal(jax.random.key(0), (ROWS, 3, 8, 8))

    def states(**options: Any) -> Any:
        output: Any = model.apply(
            {"params": params}, pixel_values=images, output_hidden_states=True, rngs=KEY, **options
        )
        return output.hidden_states

    plain, drops = states(), states(deterministic=False)
    assert np.array_equal(plain[1], drops[1]) and not np.array_equal(plain[2], drops[2])
    skipped = np.isclose(drops[2], drops[1], atol=1e-7).all((1, 2))  # both branches
    assert 0 < skipped.sum() < ROWS / 2
    frozen = states(deterministic=False, frozen=("backbone/encoder/layer/1",))
    assert np.array_equal(plain[2], frozen[2])


def test_an_export_says_nothing_of_it() -> None:
    config = dataclasses.replace(IMAGE, drop_path_rate=0.2)
    assert config.to_hf() == IMAGE.to_hf() and ViTConfig.from_hf(IMAGE.to_hf(), drop_path_rate=0.2) == config
