"""Blocks that are traced once: masks, outputs and gradients keep their bits; an interceptor sees every block."""

import contextlib
import zlib
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from tlx.adapters.lora import Lora
from tlx.adapters.model import add_lora
from tlx.models import transformer
from tlx.models.bert import BertConfig
from tlx.models.forward import Context, forward
from tlx.models.heads import Head
from tlx.models.layers import path_hash
from tlx.models.model import Model, build_model
from tlx.models.vit import ViTConfig
from tlx.params.paths import flatten
from tlx.pretrained.load import random_params

SIZES = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32}
FROZEN = ("backbone/embeddings", "backbone/encoder/layer/0")


def bert(**fields: Any) -> tuple[Model, Any]:
    config = BertConfig(**SIZES, vocab_size=50, max_position_embeddings=16, **fields)
    model = build_model(config, {"default": Head("classification", 2)})
    return model, random_params(model, 0)


def vit() -> tuple[Model, Any]:
    config = ViTConfig(**SIZES, image_size=8, patch_size=4, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1)
    model = build_model(config, {"default": Head("classification", 2)})
    return model, random_params(model, 0)


def lora() -> tuple[Model, Any]:
    model, params = add_lora(*bert(), Lora(name="one", rank=2, dropout=0.2), seed=1)
    model, params = add_lora(model, params, Lora(name="two", rank=3), seed=2)
    # matrices B start at 0; here they are not
    return model, jax.tree.map(lambda leaf: leaf + 0.01 * jnp.cos(jnp.arange(leaf.size).reshape(leaf.shape)), params)


def unchanged(run: Any, args: Any, kwargs: Any, context: Any) -> Any:
    del context
    return run(*args, **kwargs)


def inputs_of(model: Model) -> dict[str, jax.Array]:
    if isinstance(model.backbone.config, ViTConfig):
        return {"pixel_values": jax.random.normal(jax.random.key(3), (2, 3, 8, 8))}
    mask = jnp.asarray([[1] * 8, [1] * 5 + [0] * 3])
    return {"input_ids": jnp.arange(16).reshape(2, 8), "attention_mask": mask}


def gradient(model: Model, params: Any, **options: Any) -> Any:
    """Loss, outputs and gradient of a training pass, compiled."""

    def loss(params: Any, inputs: Any, key: Any) -> Any:
        output, _ = forward(model, params, {}, inputs, Context(key=key, frozen=FROZEN), **options)
        return (output.logits["default"] ** 2).sum(), output

    return jax.jit(jax.value_and_grad(loss, has_aux=True))(params, inputs_of(model), jax.random.key(5))


@pytest.mark.parametrize("made", [bert, *(pytest.param(made, marks=pytest.mark.long) for made in (vit, lora))])
def test_equal_to_tracing_each_block(made: Any) -> None:
    model, params = made()
    options = {"output_hidden_states": True, "output_attentions": True}
    found = gradient(model, params, **options)
    with nn.intercept_methods(unchanged):
        expected = gradient(model, params, **options)
    pairs = list(zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True))
    assert len(pairs) > 40 and all(np.array_equal(one, other) for one, other in pairs)
    assert np.std(found[0][1].hidden_states[2]) > 0


def test_masks_of_blocks_differ() -> None:
    """The attention weights after dropout are 0 where the mask drops: elsewhere in every block."""
    model, params = bert(attention_probs_dropout_prob=0.5)
    attentions = [
        np.asarray(weights) == 0 for weights in gradient(model, params, output_attentions=True)[0][1].attentions
    ]
    assert not attentions[0][0].any()  # frozen
    rows = [weights[0] for weights in attentions[1:]]  # of a text without padding
    assert all(0.3 < row.mean() < 0.7 for row in rows)
    assert not any(np.array_equal(rows[a], rows[b]) for a, b in ((0, 1), (0, 2), (1, 2)))


@pytest.mark.parametrize(("unknown", "bodies"), [(False, 2), (True, 4)])
def test_a_block_is_traced_once(unknown: bool, bodies: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once for the frozen one and once for the others; under an interceptor that may read paths, each by itself."""
    traced: list[str] = []
    original = transformer.SelfAttention.__call__

    def counted(self: Any, *args: Any) -> Any:
        traced.append("/".join(self.path))
        return original(self, *args)

    model, params = bert()
    monkeypatch.setattr(transformer.SelfAttention, "__call__", counted)
    with nn.intercept_methods(unchanged) if unknown else contextlib.nullcontext():
        gradient(model, params)
    assert len(traced) == bodies
    if unknown:
        assert traced == [f"backbone/encoder/layer/{index}/attention/self" for index in range(4)]


def test_operations_that_run_at_once_are_left_alone() -> None:
    """A block would be compiled for them; the paths show that it is not apart."""
    model, params = bert()
    seen = []

    def paths(run: Any, args: Any, kwargs: Any, context: Any) -> Any:
        if isinstance(context.module, transformer.SelfAttention):
            seen.append(context.module.path[3])
        return run(*args, **kwargs)

    with nn.intercept_methods(paths):
        model.apply({"params": params}, **inputs_of(model))
    assert seen == ["0", "1", "2", "3"]
    compiled = jax.jit(lambda params: model.apply({"params": params}, **inputs_of(model)).logits["default"])(params)
    np.testing.assert_allclose(model.apply({"params": params}, **inputs_of(model)).logits["default"], compiled, 1e-5)


def test_what_a_block_sows_is_kept() -> None:
    model, params = bert()
    _, state = jax.jit(
        lambda params: model.apply(
            {"params": params}, **inputs_of(model), capture_intermediates=True, mutable=["intermediates"]
        )
    )(params)
    paths = {path.rpartition("/__call__")[0] for path in flatten(state["intermediates"])}
    assert {f"backbone/encoder/layer/{index}/attention/self" for index in range(4)} <= paths


@pytest.mark.parametrize("path", ["a", "attention/self/Dropout_0", "output/Dropout_0", "x" * 70])
@pytest.mark.parametrize("above", ["", "backbone/encoder/layer/3/", "backbone/encoder/layer/11/"])
def test_the_hash_of_a_path_within_a_block(path: str, above: str) -> None:
    root = SimpleNamespace(get_variable=lambda collection, name: masks)
    site: Any = SimpleNamespace(path=tuple(path.split("/")), scope=SimpleNamespace(root=root))
    masks = np.asarray([-(zlib.crc32(above.encode()) >> bit & 1) for bit in range(32)]).astype(np.uint32)
    assert int(jax.jit(lambda: path_hash(site))()) == zlib.crc32(f"{above}{path}".encode())
