"""LoRA against kernels changed by hand in the plain model: answers, gradients, dropout, what is drawn and refused."""

import functools
import math
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from tests.models.reference import reference
from tlx.adapters.lora import Lora, lora_init, unmerge
from tlx.adapters.model import add_lora, merge_lora, with_loras
from tlx.errors import TlxError
from tlx.models.backbone import BackboneOutput
from tlx.models.model import Model
from tlx.params.paths import flatten, unflatten
from tlx.pretrained.save import write_folder

NAMES = ("bert/plain", "vit/plain")
LORAS = {  # and the scale of a rank, as the papers have it
    "query and value": (Lora(rank=4, alpha=6.0), lambda rank: 6.0 / rank),
    "by rule": (
        Lora(
            rank=3, alpha=5.0, rank_stabilised=True,
            targets=((r".*/layer/0/.*", False), (r".*/intermediate/dense/kernel", 5), (r".*/query/kernel", True)),
        ),
        lambda rank: 5.0 / math.sqrt(rank),
    ),
}  # fmt: skip


@functools.cache
def plain(name: str, dtype: Any) -> tuple[Model, Any, Any]:
    given = reference(name)
    return (*given.load(dtype), given.inputs)


def trained(name: str, lora: Lora, dtype: Any = jnp.float64) -> tuple[Any, Any, Any]:
    """A model whose adapter is not zero."""
    model, params, inputs = plain(name, dtype)
    model, params = add_lora(model, params, lora)
    leaves = flatten(params["adapters"])
    random = np.random.default_rng(0)
    moved = {path: jnp.asarray(random.normal(0, 0.3, leaf.shape), dtype) for path, leaf in leaves.items()}
    return model, {**params, "adapters": unflatten(moved)}, inputs


def by_hand(params: Any, lora: Lora, scale: Any) -> dict[str, Any]:
    """The plain tree with s A B added to its kernels, in NumPy."""
    leaves = {path: np.asarray(leaf) for path, leaf in flatten(params).items()}
    tree = {path: leaf for path, leaf in leaves.items() if not path.startswith("adapters/")}
    start, end = f"adapters/{lora.name}/", "/lora_a/kernel"
    for path, a in leaves.items():
        if path.startswith(start) and path.endswith(end):
            b = leaves[path.replace("lora_a", "lora_b")]
            kernel = f"backbone/{path.removeprefix(start).removesuffix(end)}/kernel"
            tree[kernel] = tree[kernel] + scale(a.shape[1]) * (a @ b)
    return unflatten(tree)


def logits(model: Model, params: Any, inputs: Any, **more: Any) -> Any:
    output: Any = model.apply({"params": params}, **inputs, **more)
    return output.logits["default"]


@pytest.mark.parametrize("spec", LORAS)
@pytest.mark.parametrize("name", [NAMES[0], pytest.param(NAMES[1], marks=pytest.mark.long)])
def test_it_answers_as_kernels_changed_by_hand(name: str, spec: str, x64: None) -> None:
    """So does the merged model; unmerging gives the tree back."""
    lora, scale = LORAS[spec]
    model, params, inputs = trained(name, lora)
    found = logits(model, params, inputs)
    base, base_params, _ = plain(name, jnp.float64)
    hand = by_hand(params, lora, scale)
    np.testing.assert_allclose(found, logits(base, hand, inputs), rtol=0, atol=1e-12)
    assert np.abs(found - logits(base, base_params, inputs)).max() > 1e-2
    merged_model, merged = merge_lora(model, params)
    assert type(merged_model) is Model and merged_model == base
    for path, leaf in flatten(hand).items():
        np.testing.assert_allclose(flatten(merged)[path], leaf, rtol=0, atol=1e-14, err_msg=path)
    assert flatten(merged).keys() == flatten(hand).keys()
    back = unmerge(merged, params["adapters"], lora)
    assert flatten(back).keys() == flatten(params).keys()
    for path, leaf in flatten(params).items():
        np.testing.assert_allclose(flatten(back)[path], leaf, rtol=0, atol=1e-14, err_msg=path)


def test_ranks_by_rule(x64: None) -> None:
    """The first matching rule decides; what none matches has no adapter."""
    _, params, _ = trained("bert/plain", LORAS["by rule"][0])
    shapes = {path: leaf.shape for path, leaf in flatten(params["adapters"]["lora"]).items()}
    assert shapes == {
        "encoder/layer/1/attention/self/query/lora_a/kernel": (32, 3),
        "encoder/layer/1/attention/self/query/lora_b/kernel": (3, 32),
        "encoder/layer/1/intermediate/dense/lora_a/kernel": (32, 5),
        "encoder/layer/1/intermediate/dense/lora_b/kernel": (5, 48),
    }


@pytest.mark.parametrize("name", NAMES)
def test_untrained_it_is_the_plain_model_to_the_bit(name: str, x64: None) -> None:
    model, params, inputs = plain(name, jnp.float64)
    adapted, with_adapter = add_lora(model, params, Lora(rank=4))
    found, expected = (m.apply({"params": p}, **inputs) for m, p in ((adapted, with_adapter), (model, params)))
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert np.array_equal(one, other)


def test_gradients_are_those_of_the_kernels_by_the_chain_rule(x64: None) -> None:
    """With W' = W + s A B: dA = s dW' Bᵀ and dB = s Aᵀ dW'."""
    lora, scale = LORAS["query and value"]
    model, params, inputs = trained("bert/plain", lora)
    base = plain("bert/plain", jnp.float64)[0]
    weights = jnp.asarray(np.random.default_rng(1).normal(size=(3, 3)))
    base_params = {part: params[part] for part in ("backbone", "heads")}

    def one(own: Any) -> Any:
        return (weights * logits(model, {**base_params, "adapters": own}, inputs)).sum()

    def other(hand: Any) -> Any:
        return (weights * logits(base, hand, inputs)).sum()

    found = flatten(jax.jit(jax.grad(one))(params["adapters"]))
    whole = flatten(jax.jit(jax.grad(other))(by_hand(params, lora, scale)))
    leaves = flatten(params["adapters"])
    assert len(found) == 8  # two blocks, so that a gradient passes through an adapter too
    for path in (path for path in found if "lora_a" in path):
        partner = path.replace("lora_a", "lora_b")
        kernel = whole[path.replace("lora_a/", "").replace("lora/", "backbone/", 1)]
        a, b, s = leaves[path], leaves[partner], scale(4)
        np.testing.assert_allclose(found[path], s * kernel @ b.T, rtol=0, atol=1e-10, err_msg=path)
        np.testing.assert_allclose(found[partner], s * a.T @ kernel, rtol=0, atol=1e-10, err_msg=partner)
        assert np.abs(found[path]).max() > 1e-3 and np.abs(found[partner]).max() > 1e-3


def test_what_is_drawn() -> None:
    """A within ±1/√in as torch's linear layers, B zero; each leaf by its path and the key alone."""
    kernels = {"query": {"kernel": jnp.zeros((400, 64))}, "value": {"kernel": jnp.zeros((400, 64), jnp.bfloat16)}}
    tree = {"backbone": kernels}
    adapter = flatten(lora_init(tree, Lora(rank=32, targets=((".*", True),)), jax.random.key(0)))
    a = np.asarray(adapter["query/lora_a/kernel"])
    assert (
        a.shape == (400, 32) and 0.049 < np.abs(a).max() <= 0.05 and a.std() == pytest.approx(0.05 / 3**0.5, rel=0.02)
    )
    assert not adapter["query/lora_b/kernel"].any() and adapter["query/lora_b/kernel"].shape == (32, 64)
    other = adapter["value/lora_a/kernel"]
    assert other.dtype == jnp.float32 and np.abs(np.corrcoef(a.ravel(), np.ravel(other))[0, 1]) < 0.05
    only = {"backbone": {"query": kernels["query"]}}
    drawn = [lora_init(only, Lora(rank=32, targets=((".*", True),)), jax.random.key(seed)) for seed in (0, 1)]
    assert np.array_equal(drawn[0]["query"]["lora_a"]["kernel"], a)
    assert not np.array_equal(drawn[1]["query"]["lora_a"]["kernel"], a)


def test_init_gives_the_tree_that_add_lora_does() -> None:
    """So that shapes for restoring and for `tlx inspect` are a run's own."""
    model, params, inputs = plain("vit/plain", jnp.float32)
    model, params = add_lora(model, params, LORAS["by rule"][0])
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), **inputs))["params"]
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), params) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), shapes
    )


class Own(nn.Module):
    """A user's backbone: x W, and a kernel that no dense layer holds."""

    bare: bool = False

    @nn.compact
    def __call__(self, *, x: jax.Array, deterministic: bool, frozen: Any) -> BackboneOutput:
        y = nn.Dense(x.shape[-1], use_bias=False, name="map")(x)
        if self.bare:
            y = y @ self.param("kernel", nn.initializers.ones, (x.shape[-1], x.shape[-1]))
        return BackboneOutput(last_hidden_state=y)

    def pooling_mask(self, features: Any, inputs: Any) -> None:
        return None


def test_dropout_of_what_an_adapter_is_given() -> None:
    """With A B = 1 and W = 0 the answer is the dropped input: zero or scaled, by the key and the adapter's name; the
    plain input in evaluation and where the block is frozen."""
    x = jnp.ones((50, 40, 16))
    eye, zero = {"kernel": jnp.eye(16)}, {"kernel": jnp.zeros((16, 16))}
    loras = tuple(
        Lora(rank=16, alpha=16.0, dropout=0.25, targets=((".*", True),), name=name) for name in ("one", "two")
    )
    model = with_loras(Model(Own()), loras)
    own = {"map": {"lora_a": eye, "lora_b": eye}}
    params = {"backbone": {"map": zero}, "adapters": {"one": own, "two": own}}

    def answer(seed: int = 0, active: Any = ("one",), **more: Any) -> np.ndarray:
        rngs = {"dropout": jax.random.key(seed)}
        output: Any = model.clone(active=active).apply({"params": params}, x=x, rngs=rngs, **more)
        return np.asarray(output.last_hidden_state)

    assert np.array_equal(answer(), x) and np.array_equal(answer(active=None), 2 * x)
    assert np.array_equal(answer(active=()), 0 * x)
    assert np.array_equal(answer(deterministic=False, frozen=("backbone/map",)), x)
    dropped = answer(deterministic=False)
    assert set(np.unique(dropped)) == {0.0, np.float32(1 / 0.75)}
    assert (dropped == 0).mean() == pytest.approx(0.25, abs=0.01)
    assert np.array_equal(answer(deterministic=False), dropped)
    for other in (answer(1, deterministic=False), answer(deterministic=False, active=("two",))):
        assert ((other == 0) & (dropped == 0)).mean() == pytest.approx(0.0625, abs=0.01)
    merged = merge_lora(model.clone(active=("two",)), params)[1]
    assert np.array_equal(merged["backbone"]["map"]["kernel"], np.eye(16)) and merged.keys() == {"backbone"}


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        (
            Lora(targets=((".*/quary/kernel", True),)),
            r"lora.targets: the rule '.*/quary/kernel' matches no .*query/kernel",
        ),
        (Lora(targets=((".*/query/kernel", False),)), "lora.targets select no kernel"),
        (Lora(targets=((".*/query/kernel", "8"),)), "a rule's value is True, False or a rank; found '8'"),
        (Lora(rank=33), r"query/kernel has shape \(32, 32\), so its rank must be 1 to 32; found 33"),
    ],
)
def test_targets_that_do_not_fit(lora: Lora, message: str) -> None:
    model, params, _ = plain("bert/plain", jnp.float32)
    with pytest.raises(TlxError, match=message):
        add_lora(model, params, lora)


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ({"rank": 0}, "lora.rank is 0; it must be at least 1"),
        ({"alpha": 0.0}, "lora.alpha is 0.0; it must be above 0"),
        ({"dropout": 1.0}, "lora.dropout is 1.0"),
        ({"name": "a/b"}, "lora.name must consist of letters"),
    ],
)
def test_fields_that_do_not_fit(field: Any, message: str) -> None:
    with pytest.raises(TlxError, match=message):
        Lora(**field)


def test_trees_that_do_not_fit(tmp_path: Any) -> None:
    model, params, inputs = plain("bert/plain", jnp.float32)
    adapted, with_adapter = add_lora(model, params, Lora())
    with pytest.raises(TlxError, match="already contain adapters/lora"):
        add_lora(adapted, with_adapter, Lora())
    with pytest.raises(TlxError, match=re.escape("have no adapters/lora (adapters there: none)")):
        logits(adapted, params, inputs)
    with pytest.raises(TlxError, match="has no adapter other; it has lora"):
        logits(adapted.clone(active=("other",)), with_adapter, inputs)
    with pytest.raises(TlxError, match="contain adapters; pass the model that add_lora returned"):
        write_folder(tmp_path / "export", model, with_adapter)
    bare = Model(Own(bare=True))
    tree = bare.init(jax.random.key(0), x=jnp.ones((1, 2, 4)))["params"]
    own, tree = add_lora(bare, tree, Lora(rank=2, targets=((".*", True),)))
    with pytest.raises(TlxError, match=re.escape("dense layers (flax.linen.Dense) that the model calls")):
        own.apply({"params": tree}, x=jnp.ones((1, 2, 4)))
