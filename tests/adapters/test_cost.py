"""What a training step with LoRA computes: the products of matrices of the compiled step, counted, beside a formula."""

import math
import re
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest

from tlx.adapters.lora import Lora
from tlx.adapters.model import with_loras
from tlx.methods.finetune import FineTune
from tlx.models.bert import BertConfig
from tlx.models.heads import Head
from tlx.models.model import build_model
from tlx.params.paths import flatten
from tlx.pretrained.load import abstract_params
from tlx.training.state import init_state
from tlx.training.step import make_train_step

ROWS, LENGTH, RANK, CLASSES = 4, 8, 8, 3
CONFIG = BertConfig(
    vocab_size=32, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=80,
    max_position_embeddings=16, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
)  # fmt: skip


def product_flops(text: str) -> int:
    """2 · (entries of the result) · (entries summed over), of every `dot` of a compiled program."""
    shapes = {
        name: [int(size) for size in sizes.split(",") if size]
        for name, sizes in re.findall(r"%?([\w.\-]+) = \w+\[([\d,]*)\]", text)
    }
    total = 0
    for name, given, over in re.findall(r"%?([\w.\-]+) = \S+ dot\((.*?)\), .*?lhs_contracting_dims=\{([\d,]*)\}", text):
        left = shapes[re.findall(r"%([\w.\-]+)", given)[0]]
        total += 2 * math.prod(shapes[name]) * math.prod(left[int(axis)] for axis in over.split(",") if axis)
    return total


def expected_flops() -> int:
    """Adapters of query and value in every block; below the lowest nothing is differentiated."""
    c, tokens = CONFIG, ROWS * LENGTH
    h, wide, blocks = c.hidden_size, c.intermediate_size, c.num_hidden_layers
    square, mlp = 2 * tokens * h * h, 2 * 2 * tokens * h * wide  # one projection; both of the feed-forward network
    scores = 2 * tokens * LENGTH * h  # Q Kᵀ, and as much for the mixing of values
    low = 2 * tokens * h * RANK  # x A, and as much for (x A) B
    top = 2 * ROWS * h * (h + CLASSES)  # pooler and head
    forward = blocks * (4 * square + mlp + 2 * scores + 2 * 2 * low) + top
    # By activations: weights, values and queries in every block, keys and x only above the lowest block.
    back = blocks * (square + mlp + 3 * scores + 2 * low) + (blocks - 1) * (3 * square + scores + 2 * low) + top
    return forward + back + blocks * 2 * 2 * low + 2 * ROWS * h * CLASSES  # of A, of B, of the head


@pytest.mark.slow
def test_a_frozen_kernel_has_no_gradient_and_a_low_one_is_cheap() -> None:
    model = with_loras(build_model(CONFIG, {"default": Head("classification", CLASSES)}), (Lora(rank=RANK),))
    params = abstract_params(model)
    owner = {path: None if path.startswith("backbone/") else "model" for path in flatten(params)}
    method = FineTune(model, {"default": "label"}, lambda rows, key: ({"input_ids": rows["input_ids"]}, rows))
    optimizers = {"model": optax.adamw(1e-3)}
    state = jax.eval_shape(lambda params: init_state(params, owner, optimizers, {}), params)

    def of(shape: tuple[int, ...], dtype: Any = jnp.int32) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, dtype)

    batch = {"train": {"input_ids": of((ROWS, LENGTH)), "label": of((ROWS,)), "valid": of((ROWS,), bool)}}
    step = jax.jit(make_train_step(method, optimizers, owner, clip=1.0))
    found = product_flops(step.lower(state, batch, jax.random.key(0)).compile().as_text())
    assert found == expected_flops()
