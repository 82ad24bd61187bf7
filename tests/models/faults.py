"""Faults that a BERT can have and still train: each with the reference checkpoint that should show it."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from tests.models import faulty_code as faulty
from tlx.models import bert, distilbert, heads, interpolate, layers, patches, pre_norm, roberta, text, transformer, vit

Leaves = dict[str, jax.Array]
MODULES = (bert, distilbert, heads, interpolate, layers, patches, pre_norm, roberta, text, transformer, vit)


@dataclasses.dataclass(frozen=True)
class Fault:
    """One fault.

    variant: the reference checkpoint that shows it.
    code: names in the modules below and what stands there instead.
    methods: attributes of classes and what stands there instead.
    config: fields that are read wrongly.
    params: what becomes of the parameters, by path.
    keep_mask: what becomes of dropout's mask and probability.
    gradient: it shows in gradients alone; the others are looked for in what the model answers.
    """

    variant: str = "bert/plain"
    code: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    methods: Mapping[tuple[type, str], Any] = dataclasses.field(default_factory=dict)
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    params: Callable[[Leaves], Leaves] = dict
    keep_mask: Callable[[Any, float], tuple[Any, float]] | None = None
    gradient: bool = False

    def plant(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Patches the code; dropout's masks must be in place."""
        for name, replacement in self.code.items():
            for module in MODULES:
                if hasattr(module, name):
                    monkeypatch.setattr(module, name, replacement)
        for (owner, name), replacement in self.methods.items():
            monkeypatch.setattr(owner, name, replacement)
        if self.keep_mask is not None:
            right, wrong = layers.keep_mask, self.keep_mask
            monkeypatch.setattr(layers, "keep_mask", lambda *arguments: wrong(*right(*arguments)))


def swapped(one: str, other: str) -> Callable[[Leaves], Leaves]:
    """Parameters with two parts of their paths exchanged."""

    def swap(path: str) -> str:
        return path.replace(one, "\0").replace(other, one).replace("\0", other)

    return lambda leaves: {path: leaves[swap(path)] for path in leaves}


def copied(source: str, target: str) -> Callable[[Leaves], Leaves]:
    """Parameters where one part of the paths (a regex) holds what another holds."""
    return lambda leaves: {path: leaves[re.sub(target, source, path)] for path in leaves}


def changed(part: str, change: Callable[[jax.Array], jax.Array]) -> Callable[[Leaves], Leaves]:
    """Parameters where the leaves whose path holds `part` are changed."""
    return lambda leaves: {path: change(leaf) if part in path else leaf for path, leaf in leaves.items()}


def interleaved(leaf: jax.Array) -> jax.Array:
    """The last axis read as (size, heads) in place of (heads, size)."""
    return leaf.reshape(*leaf.shape[:-1], 4, -1).swapaxes(-1, -2).reshape(leaf.shape)


RATES_SWAPPED = {"hidden_dropout_prob": 0.4, "attention_probs_dropout_prob": 0.25}

FAULTS = {
    "query and key swapped": Fault(params=swapped("/query/", "/key/")),
    "no 1/sqrt(d)": Fault(code={"attention_weights": faulty.scaled_attention(lambda q: q.shape[-1] ** 0.5)}),
    "1/sqrt(hidden)": Fault(code={"attention_weights": faulty.scaled_attention(lambda q: q.shape[-2] ** -0.5)}),
    "padding is seen": Fault(code={"visible": lambda mask, segments: None}),
    "padding is seen a little": Fault(code={"attention_weights": faulty.soft_mask}),
    "mask in the place of scores": Fault(
        "bert/nothing_to_see", code={"attention_weights": faulty.replacing_mask}, gradient=True
    ),
    "softmax over queries": Fault("bert/defaults", code={"attention_weights": faulty.over_queries}),
    "heads interleaved": Fault(params=changed("/self/", interleaved)),
    "tanh for erf": Fault("bert/layers_3", config={"hidden_act": "gelu_new"}, gradient=True),
    "erf for tanh": Fault("bert/act_gelu_new", config={"hidden_act": "gelu"}),
    "sigmoid for tanh in gelu": Fault("bert/act_gelu_fast", config={"hidden_act": "quick_gelu"}),
    "gelu not clipped": Fault("bert/act_gelu_10", config={"hidden_act": "gelu"}),
    "relu not clipped": Fault("bert/act_relu6", config={"hidden_act": "relu"}),
    "eps of today's default": Fault("bert/eps_1e-3", config={"layer_norm_eps": 1e-12}),
    "eps of torch's default": Fault("bert/eps_1e-3", config={"layer_norm_eps": 1e-5}),
    "eps 1e-12 for 1e-5": Fault("bert/eps_1e-5", config={"layer_norm_eps": 1e-12}),
    "norm's scale counted from one": Fault(params=changed("/scale", lambda scale: 1 + scale)),
    "norm before adding": Fault(code={"AddNorm": faulty.NormThenAdd}),
    "residual from the block's input": Fault(code={"Block": faulty.Residual}),
    "token types left out": Fault(
        code={"TextEmbeddings": faulty.embeddings_of(lambda types, at: (jnp.zeros_like(types), at))}
    ),
    "third token type": Fault(
        "bert/token_types_3", params=changed("token_type", lambda table: table.at[2].set(table[1]))
    ),
    "positions from one": Fault(code={"TextEmbeddings": faulty.embeddings_of(lambda types, at: (types, at + 1))}),
    "positions not as given": Fault(
        "bert/positions",
        code={"TextEmbeddings": faulty.embeddings_of(lambda types, at: (types, jnp.arange(at.shape[-1])[None]))},
    ),
    "padding row learns": Fault(config={"pad_token_id": None}, gradient=True),
    "another padding row": Fault("bert/pad_5", config={"pad_token_id": 0}, gradient=True),
    "pooler of the last token": Fault(code={"Pooler": faulty.pooler_of(lambda x: x[:, -1:])}),
    "pooler of the mean": Fault(code={"Pooler": faulty.pooler_of(lambda x: x.mean(1, keepdims=True))}),
    "pooler without tanh": Fault(code={"Pooler": faulty.NoTanh}),
    "query, key and value share one bias": Fault(params=copied("/query/bias", "/value/bias")),
    "a block's norms share one bias": Fault(
        params=copied("/attention/output/LayerNorm/bias", "(?<!/attention)/output/LayerNorm/bias")
    ),
    "blocks in reverse": Fault(params=swapped("/layer/0/", "/layer/1/")),
    "blocks share their weights": Fault(params=copied("/layer/0/", "/layer/1/")),
    "square kernel not transposed": Fault(params=changed("attention/output/dense/kernel", jnp.transpose)),
    "classifier without bias": Fault(params=changed("heads/default/output/bias", jnp.zeros_like)),
    "dropout before the first norm": Fault("bert/dropout", code={"TextEmbeddings": faulty.DropsBeforeNorm}),
    "dropout after adding": Fault("bert/dropout", code={"AddNorm": faulty.DropsAfterAdding}),
    "dropout rates swapped": Fault("bert/dropout", config=RATES_SWAPPED),
    "no dropout on attention": Fault("bert/dropout", config={"attention_probs_dropout_prob": 0.0}),
    "no dropout before the classifier": Fault("bert/dropout", config={"classifier_dropout": 0.0}),
    "hidden rate before the classifier": Fault("bert/dropout", config={"classifier_dropout": None}),
    "dropout not scaled": Fault("bert/dropout", keep_mask=lambda keep, probability: (keep, 1.0)),
    "dropout inverted": Fault("bert/dropout", keep_mask=lambda keep, probability: (~keep, probability)),
}
