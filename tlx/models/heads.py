"""Heads: what turns a backbone's output into answers, one entry per name."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from tlx.errors import TlxError, listed
from tlx.models.bert import BackboneOutput
from tlx.models.layers import Dropout, Dtype, dense

KINDS = ("classification", "regression")
POOLINGS = ("pooler", "cls")


@dataclasses.dataclass(frozen=True)
class Head:
    """What a head answers.

    kind: `classification` (logits over `outputs` classes) or `regression` (`outputs` real values).
    outputs: how many.
    pooling: `pooler` (the checkpoint's own), or `cls` (the first token's last hidden state).
    labels: the classes' names, in order; empty if unknown.
    shift, scale: a regression answers `scale · (W h + b) + shift`, so that it learns in units of the targets' spread
      and answers in the data's own. On export both are folded into W and b.
    """

    kind: str
    outputs: int
    pooling: str = "pooler"
    labels: tuple[str, ...] = ()
    shift: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise TlxError(f"head kind is {self.kind!r}; tlx has {listed(KINDS)}.")
        if self.pooling not in POOLINGS:
            raise TlxError(f"head pooling is {self.pooling!r}; tlx has {listed(POOLINGS)}.")
        if self.outputs < 1:
            raise TlxError(f"a head needs at least one output, found {self.outputs}.")
        for name, count in (("labels", len(self.labels)), ("shift", len(self.shift)), ("scale", len(self.scale))):
            if count not in (0, self.outputs):
                raise TlxError(f"a head with {self.outputs} outputs has {count} {name}.")


class HeadModule(nn.Module):
    """Pooling, dropout, one dense layer."""

    head: Head
    dropout: float
    initializer_range: float
    dtype: Dtype = None

    @nn.compact
    def __call__(self, features: BackboneOutput, deterministic: bool) -> jax.Array:
        x = features.pooler_output if self.head.pooling == "pooler" else features.last_hidden_state[:, 0]
        if x is None:
            raise TlxError("the head pools by the pooler, but this backbone has none; say pooling='cls'.")
        x = Dropout(self.dropout)(x, deterministic)
        x = dense(self.head.outputs, "output", self.dtype, self.initializer_range)(x)
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        if self.head.scale:
            x = x * jnp.asarray(self.head.scale, x.dtype)
        if self.head.shift:
            x = x + jnp.asarray(self.head.shift, x.dtype)
        return x


class Heads(nn.Module):
    """All heads, each under its name."""

    heads: tuple[tuple[str, Head], ...]
    dropout: float
    initializer_range: float
    dtype: Dtype = None

    @nn.compact
    def __call__(self, features: BackboneOutput, deterministic: bool) -> dict[str, jax.Array]:
        answers: dict[str, Any] = {}
        for name, head in self.heads:
            module = HeadModule(head, self.dropout, self.initializer_range, self.dtype, name=name)
            answers[name] = module(features, deterministic)
        return answers
