"""What cuDNN's kernel is asked to compute, against attention in float64; on a GPU, the kernel itself."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from tlx.errors import TlxError
from tlx.models.bert import BertConfig
from tlx.models.forward import forward
from tlx.models.fused_attention import choose_implementation, fused_attention, has_flash_attention
from tlx.models.model import build_model
from tlx.models.text import visible
from tlx.pretrained.load import random_params

BATCH, LENGTH, HEADS, SIZE = 3, 10, 2, 8
PADDING = np.arange(LENGTH) < np.array([[10], [7], [1]])
SEGMENTS = np.array([[1] * 4 + [2] * 6, [1] * 3 + [2] * 3 + [3] * 2 + [0] * 2, [1] + [0] * 9])
MASKS = {
    "none": visible(None, None), "padding": visible(jnp.asarray(PADDING), None),
    "packed": visible(None, jnp.asarray(SEGMENTS)), "both": visible(jnp.asarray(PADDING), jnp.asarray(SEGMENTS)),
}  # fmt: skip


def expected(query: Any, key: Any, value: Any, mask: Any) -> np.ndarray:
    """softmax(Q Kᵀ / √d) V, a query and a head at a time, in float64. Without a key to see: the mean of V."""
    out = np.zeros(query.shape)
    for row, head, at in np.ndindex(BATCH, HEADS, query.shape[1]):
        length = query.shape[1]
        seen = np.ones(length, bool)
        if mask is not None:
            seen = np.broadcast_to(np.asarray(mask), (BATCH, HEADS, length, length))[row, head, at]
        if not seen.any():
            out[row, at, head] = value[row, :, head].mean(axis=0)
            continue
        scores = key[row, seen, head] @ query[row, at, head] / np.sqrt(SIZE)
        weights = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
        out[row, at, head] = weights @ value[row, seen, head]
    return out


def given() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [np.asarray(jnp.asarray(random.standard_normal((BATCH, LENGTH, HEADS, SIZE)), jnp.bfloat16), float)
            for _ in range(3)]  # fmt: skip


@pytest.mark.usefixtures("full_precision")
@pytest.mark.parametrize("length", [LENGTH, LENGTH - 1])
@pytest.mark.parametrize("mask", MASKS)
def test_xla_form(mask: str, length: int) -> None:
    """Even and odd lengths; a query without any key to see is only in `both`, where a length that is odd adds one."""
    arrays = [x[:, :length] for x in given()]
    shown = MASKS[mask] if MASKS[mask] is None else MASKS[mask][..., :length, :length]
    if mask == "both":
        shown = shown | jnp.eye(length, dtype=bool) if length % 2 else shown
    found = fused_attention(*(jnp.asarray(x, jnp.float32) for x in arrays), shown, "xla")
    np.testing.assert_allclose(found, expected(*arrays, shown), atol=2e-6)


@pytest.mark.gpu
@pytest.mark.parametrize("mask", MASKS)
def test_kernel(mask: str) -> None:
    arrays = given()
    found = jax.jit(fused_attention)(*(jnp.asarray(x, jnp.bfloat16) for x in arrays), MASKS[mask])
    np.testing.assert_allclose(found.astype(float), expected(*arrays, MASKS[mask]), atol=2e-2)


class Device:
    """Of a GPU, what the choice reads."""

    platform = "gpu"

    def __init__(self, version: str, capability: str) -> None:
        self.client, self.compute_capability = self, capability
        self.platform_version = version


@pytest.mark.parametrize(
    ("version", "capability", "has"),
    [
        ("cuda 12080", "7.5", False),
        ("cuda 12080", "8.0", True),
        ("cuda 13000", "12.0", True),
        ("rocm 60000", "9.0", False),
    ],
)
def test_devices_with_the_kernel(version: str, capability: str, has: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(version, capability)
    assert has_flash_attention(device) == has
    assert choose_implementation("auto", jnp.bfloat16, 64) == "xla"  # a CPU
    monkeypatch.setattr(jax, "devices", lambda: [device])
    assert choose_implementation("auto", jnp.bfloat16, 64) == ("cudnn" if has else "xla")
    assert choose_implementation("auto", None, 64) == choose_implementation("auto", jnp.bfloat16, 12) == "xla"


def test_maps_are_computed_without_the_kernel() -> None:
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 8}
    models = [build_model(BertConfig(vocab_size=8, **sizes, attention=kind), {}) for kind in ("xla", "cudnn")]
    params, inputs = random_params(models[0], 0), {"input_ids": jnp.ones((2, 4), jnp.int32)}
    plain, asked = (forward(m, params, {}, inputs, output_attentions=True)[0].attentions for m in models)
    assert np.array_equal(plain[0], asked[0]) and plain[0].shape == (2, 2, 4, 4)
    assert "attention" not in models[1].backbone.config.to_hf()


def test_kernel_has_no_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tlx.models.layers.fused_attention", lambda query, *_: query)
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 8}
    model: nn.Module = build_model(BertConfig(vocab_size=8, **sizes, attention="cudnn"), {})
    with pytest.raises(TlxError, match="cuDNN's kernel returns no attention weights"):
        model.apply({"params": random_params(model, 0)}, input_ids=jnp.ones((2, 4), jnp.int32), output_attentions=True)
