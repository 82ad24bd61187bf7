"""A config may claim any size: what it needs is counted from two blocks, and refused where there is no room."""

import dataclasses
import time

import jax
import pytest

from tests import tiny
from tlx.errors import TlxError
from tlx.models.distilbert import DistilBertConfig
from tlx.models.heads import Head
from tlx.models.model import Model, build_model
from tlx.models.vit import ViTConfig
from tlx.pretrained.load import abstract_params, count_params, random_params

CONFIGS = [
    dataclasses.replace(tiny.SMALL, num_hidden_layers=5),
    DistilBertConfig(dim=32, n_layers=4, n_heads=4, hidden_dim=48, vocab_size=40),
    ViTConfig(
        hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=48, image_size=16, patch_size=4,
    ),
]  # fmt: skip


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.model_type)
def test_counted_from_two_blocks(config: object) -> None:
    model: Model = build_model(config, {"default": Head("classification", 3)})  # type: ignore[arg-type]
    assert count_params(model) == sum(leaf.size for leaf in jax.tree.leaves(abstract_params(model)))


def test_what_exceeds_memory_is_refused_at_once() -> None:
    """A BERT of 40 billion parameters, and one of a thousand blocks, without tracing them."""
    huge = dataclasses.replace(
        tiny.SMALL, hidden_size=16384, num_hidden_layers=1000, intermediate_size=65536, num_attention_heads=128
    )
    began = time.perf_counter()
    with pytest.raises(TlxError, match=r"BERT of 1000 blocks has 3,2\d\d,\d{3},\d{3},\d{3} parameters, 1[12]\.\d TiB"):
        random_params(build_model(huge, {}), 0)
    assert time.perf_counter() - began < 20


def test_blocks_without_end_are_refused_at_once() -> None:
    """A thousand small blocks fit into memory; tracing them alone takes a minute."""
    deep = dataclasses.replace(tiny.SMALL, num_hidden_layers=1000)
    with pytest.raises(TlxError, match=r"1,000 blocks \(.* parameters, .* MiB\); tlx initializes at most 256"):
        random_params(build_model(deep, {}), 0)
