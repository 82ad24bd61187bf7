"""Residual sums are computed once, however deep the model."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tlx.models.bert import BertConfig
from tlx.models.distilbert import DistilBertConfig
from tlx.models.heads import Head
from tlx.models.layers import fusion_barrier
from tlx.models.model import build_model
from tlx.models.vit import ViTConfig
from tlx.pretrained.load import abstract_params

TEXT: dict[str, Any] = {"input_ids": jnp.ones((2, 8), jnp.int32)}
IMAGE: dict[str, Any] = {"pixel_values": jnp.ones((2, 8, 8, 3)), "channels_last": True}
SMALL: dict[str, Any] = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 16}
WORDS = {"vocab_size": 16, "max_position_embeddings": 8}
FAMILIES = {  # name -> config of so many blocks, inputs
    "bert": (lambda depth: BertConfig(num_hidden_layers=depth, **SMALL, **WORDS), TEXT),
    "distilbert": (lambda depth: DistilBertConfig(n_layers=depth, dim=8, n_heads=2, hidden_dim=16, **WORDS), TEXT),
    "vit": (lambda depth: ViTConfig(num_hidden_layers=depth, image_size=8, patch_size=4, **SMALL), IMAGE),
}


def most_operands(config: Any, inputs: dict[str, Any]) -> int:
    """Of any fusion of the compiled gradient of all parameters."""
    model = build_model(config, {"default": Head("classification", 2)})

    def loss(params: Any) -> jax.Array:
        return model.apply({"params": params}, **inputs, deterministic=True).logits["default"].sum()

    text = jax.jit(jax.grad(loss)).lower(abstract_params(model)).compile().as_text()
    return max(operands.count("%") for operands in re.findall(r" fusion\((.*?)\), kind", text))


@pytest.mark.parametrize("family", FAMILIES)
def test_sums_are_not_computed_anew(family: str) -> None:
    config, inputs = FAMILIES[family]
    assert most_operands(config(2), inputs) == most_operands(config(4), inputs)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_held_changes_no_bit(dtype: str) -> None:
    with jax.enable_x64(dtype == "float64"):
        given = jnp.array([0.0, -0.0, 1.5, 1e30, jnp.inf, -jnp.inf, jnp.nan], dtype)
        kept, back = jax.jit(lambda x: jax.vjp(fusion_barrier, x)[1](x)[0])(given), jax.jit(fusion_barrier)(given)
    for found in (kept, back):
        assert found.dtype == dtype and np.asarray(found).tobytes() == np.asarray(given).tobytes()
