"""What a step with frozen parts computes: the products of the compiled program beside those that are needed."""

import sys
from pathlib import Path
from typing import Any

import pytest

from tlx.models.bert import BertConfig
from tlx.models.vit import ViTConfig
from tlx.params.paths import flatten
from tlx.pretrained.load import abstract_params

sys.path.append(str(Path(__file__).parents[2] / "benchmarks" / "freezing"))

import arms
import freezing
from count import expected

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 80,
    **arms.WITHOUT,
}
BERT: Any = BertConfig(vocab_size=32, max_position_embeddings=16, **SIZES)
VIT: Any = ViTConfig(image_size=16, patch_size=8, add_pooling_layer=False, **SIZES)
SMALL = {"bert": (BERT, 4, 8), "vit": (VIT, 4, 5)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "strategy"),
    [
        ("bert", "full"), ("bert", "last 1"), ("bert", "LoRA r=8"), ("bert", "biases"), ("vit", "last 1"),
        *(pytest.param(*arm, marks=pytest.mark.long) for arm in (("bert", "head only"), ("vit", "LoRA r=8"))),
    ],
)  # fmt: skip
def test_products_are_those_needed(family: str, strategy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(arms.STRATEGIES, "last 1", "last:1")
    config, rows, length = SMALL[family]
    model, rules = arms.arm(config, strategy)
    player_of = arms.step_setup(model, rules, rows, length).player_of
    learning = {path: leaf for path, leaf in flatten(abstract_params(model)).items() if player_of[path]}
    found = freezing.compiled(model, rules, rows, length)
    assert found.products == sum(
        expected(config, rows, length, arms.CLASSES, learning, arms.RANK if "LoRA" in strategy else 0)
    )
    size = sum(leaf.size for leaf in learning.values())
    assert (found.gradients, found.moments) == (4 * size, 8 * size)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["full", "biases"])
def test_norms_clipping_accumulation_and_averages_are_cheap(strategy: str) -> None:
    """At most 20 operations for each parameter that learns, and some: EMA alone has three."""
    model, rules = arms.arm(BERT, strategy)
    learning = arms.step_setup(model, rules, 2, 2).player_of
    size = sum(leaf.size for path, leaf in flatten(abstract_params(model)).items() if learning[path])
    assert 6 < freezing.extras(model, rules, size) <= 20
