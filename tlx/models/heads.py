"""Heads: what turns a backbone's output into answers, one entry per name."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from tlx.errors import TlxError, listed
from tlx.models.activations import ACTIVATIONS
from tlx.models.layers import Dropout, Dtype, dense, layer_norm

PER_TEXT = ("classification", "multilabel", "regression")
PER_TOKEN = ("tagging", "masked_lm", "question_answering")
KINDS = (*PER_TEXT, *PER_TOKEN, "multiple_choice")
OUTPUTS = {"question_answering": 2, "multiple_choice": 1}  # kinds whose outputs are given
POOLINGS = ("pooler", "cls", "mean", "distilled")


@dataclasses.dataclass(frozen=True)
class Head:
    """What a head answers.

    kind: `classification` (logits over `outputs` classes, of which one is right), `multilabel` (a logit for each of
      `outputs` labels, any number of which is right), `regression` (`outputs` real values), `tagging` (logits over
      `outputs` classes for every token), `masked_lm` (logits over a vocabulary of `outputs` for every token; the
      output layer is the backbone's word embedding, of which the head stores no copy, unless `tied` is False),
      `question_answering` (for every token a logit of being the answer's first and one of being its last: 2 outputs),
      or `multiple_choice` (one logit for each of several texts, given as inputs (batch, choices, length): 1 output).
    outputs: how many.
    pooling: what an answer to the whole text or image is read from: `pooler` (as this family's published classifiers
      do: BERT's is the backbone's pooler, other texts' a dense layer of the head's own on the first token, images' the
      class token), `cls` (the first token's last hidden state), `mean` (of the last hidden states of all tokens that
      are no padding, of an image's patches), `distilled` (DeiT's: the mean of two layers' answers, one on the class
      token and one on the distillation token).
    labels: the classes' names, in order; empty if unknown.
    tied: of `masked_lm`: whether the output layer is the word embedding; False gives it a kernel of its own.
    shift, scale: a regression answers `scale · (W h + b) + shift`, so that it learns in units of the targets' spread
      and answers in the data's own. On export both are folded into W and b.
    """

    kind: str
    outputs: int
    pooling: str = "pooler"
    labels: tuple[str, ...] = ()
    shift: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    tied: bool = True

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise TlxError(f"head kind is {self.kind!r}; tlx has {listed(KINDS)}.")
        if self.pooling not in POOLINGS:
            raise TlxError(f"head pooling is {self.pooling!r}; tlx has {listed(POOLINGS)}.")
        if self.outputs < 1:
            raise TlxError(f"a head needs at least one output, found {self.outputs}.")
        if self.outputs != OUTPUTS.get(self.kind, self.outputs):
            raise TlxError(f"a {self.kind} head has {OUTPUTS[self.kind]} outputs, found {self.outputs}.")
        for name, count in (("labels", len(self.labels)), ("shift", len(self.shift)), ("scale", len(self.scale))):
            if count not in (0, self.outputs):
                raise TlxError(f"a head with {self.outputs} outputs has {count} {name}.")


@dataclasses.dataclass(frozen=True)
class Readout:
    """How a family's heads read what they answer from.

    dropout: the rate before the output layer. dense: the activation of a dense layer that the head has of its own
    before that, None without one. drops_first: whether it drops before that layer too.
    """

    dropout: float = 0.0
    dense: str | None = None
    drops_first: bool = False


@dataclasses.dataclass(frozen=True)
class HeadSettings:
    """What heads take from the backbone's config.

    kinds: that there are. distilled: whether the second token is one of distillation.
    text, token, span, choice: how heads of whole texts, `tagging`, `question_answering` and `multiple_choice` read;
    None of a kind that this config asks for in a form that tlx lacks. pooled_by: what `pooling="pooler"` is where a
    head has no dense layer of its own, `pooler` or `cls`. transform_size, transform_act: of the layer
    before a masked language model's vocabulary.
    """

    kinds: tuple[str, ...] = KINDS
    distilled: bool = False
    text: Readout = Readout()
    token: Readout = Readout()
    span: Readout = Readout()
    choice: Readout | None = Readout()
    pooled_by: str = "pooler"
    transform_size: int = 768
    transform_act: str = "gelu"
    layer_norm_eps: float = 1e-12
    initializer_range: float = 0.02

    def readout(self, kind: str) -> Readout:
        """How a head of this kind reads."""
        found = {"tagging": self.token, "question_answering": self.span, "multiple_choice": self.choice}
        readout = found.get(kind, self.text)
        if readout is None:
            raise TlxError(f"this checkpoint's config asks for a {kind} head in a form that tlx lacks (summary_type).")
        return readout


@struct.dataclass
class HeadInputs:
    """What heads read.

    last_hidden_state: (batch, length, hidden). pooler_output: (batch, hidden), or None. attention_mask: (batch,
    length), None where nothing is padded. word_embeddings: (vocabulary, hidden), where a head reads them.
    """

    last_hidden_state: jax.Array
    pooler_output: jax.Array | None
    attention_mask: jax.Array | None
    word_embeddings: jax.Array | None


def pool(pooling: str, features: HeadInputs) -> jax.Array:
    """(batch, hidden): what a text is judged by."""
    hidden, mask = features.last_hidden_state, features.attention_mask
    if pooling == "cls":
        return hidden[:, 0]
    if pooling == "mean":
        weight = jnp.ones(hidden.shape[:2], hidden.dtype) if mask is None else (mask != 0).astype(hidden.dtype)
        return jnp.einsum("bl,blh->bh", weight, hidden) / jnp.maximum(weight.sum(axis=1, keepdims=True), 1)
    if features.pooler_output is None:
        raise TlxError("the head pools by the pooler, but this backbone has none; say pooling='cls'.")
    return features.pooler_output


class OutputHead(nn.Module):
    """Dropout and one dense layer, on the pooled text or on every token; where the family has it, another first."""

    head: Head
    settings: HeadSettings
    dtype: Dtype = None

    @nn.compact
    def __call__(self, features: HeadInputs, deterministic: bool) -> jax.Array:
        head, s = self.head, self.settings
        readout = s.readout(head.kind)
        if head.kind in PER_TOKEN:
            x = features.last_hidden_state
        elif head.pooling == "pooler" and readout.dense is not None:
            x = pool("cls", features)
            x = Dropout(readout.dropout if readout.drops_first else 0.0)(x, deterministic)
            x = ACTIVATIONS[readout.dense](dense(x.shape[-1], "dense", self.dtype, s.initializer_range)(x))
        elif head.pooling == "distilled":
            x = features.last_hidden_state[:, :2]
        else:
            x = pool(s.pooled_by if head.pooling == "pooler" else head.pooling, features)
        x = Dropout(readout.dropout)(x, deterministic)
        if head.pooling == "distilled":
            own, other = (dense(head.outputs, name, self.dtype, s.initializer_range) for name in ("output", "teacher"))
            x = (own(x[:, 0]) + other(x[:, 1])) / 2
        else:
            x = dense(head.outputs, "output", self.dtype, s.initializer_range)(x)
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        if head.scale:
            x = x * jnp.asarray(head.scale, x.dtype)
        return x + jnp.asarray(head.shift, x.dtype) if head.shift else x


class Transform(nn.Module):
    """LayerNorm(act(W x + b)), before the vocabulary."""

    settings: HeadSettings
    dtype: Dtype = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        s = self.settings
        x = ACTIVATIONS[s.transform_act](dense(s.transform_size, "dense", self.dtype, s.initializer_range)(x))
        return layer_norm("LayerNorm", self.dtype, s.layer_norm_eps)(x)


class Decoder(nn.Module):
    """An output layer that is not tied to the word embeddings; its bias is the head's."""

    outputs: int
    initializer_range: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        normal = nn.initializers.normal(self.initializer_range)
        return x @ self.param("kernel", normal, (x.shape[-1], self.outputs), jnp.float32).astype(x.dtype)


class MaskedLMHead(nn.Module):
    """Which word stood here: the word embeddings, or a kernel of the head's own, and a bias for each word (Devlin et
    al. 2019, 3.1)."""

    head: Head
    settings: HeadSettings
    dtype: Dtype = None

    @nn.compact
    def __call__(self, features: HeadInputs, deterministic: bool) -> jax.Array:
        del deterministic
        table = features.word_embeddings
        assert table is not None
        if table.shape[0] != self.head.outputs:
            raise TlxError(
                f"a masked_lm head has an output for every word: {table.shape[0]} here, found {self.head.outputs}."
            )
        x = Transform(self.settings, self.dtype, name="transform")(features.last_hidden_state)
        bias = self.param("bias", nn.initializers.zeros, (self.head.outputs,), jnp.float32)
        if self.head.tied:
            x = x @ table.T.astype(x.dtype)
        else:
            x = Decoder(self.head.outputs, self.settings.initializer_range, name="decoder")(x)
        x = x + bias.astype(x.dtype)
        return x.astype(jnp.promote_types(x.dtype, jnp.float32))


class Heads(nn.Module):
    """All heads, each under its name."""

    heads: tuple[tuple[str, Head], ...]
    settings: HeadSettings
    dtype: Dtype = None

    @nn.compact
    def __call__(self, features: HeadInputs, deterministic: bool) -> dict[str, jax.Array]:
        predictions: dict[str, Any] = {}
        for name, head in self.heads:
            module = MaskedLMHead if head.kind == "masked_lm" else OutputHead
            predictions[name] = module(head, self.settings, self.dtype, name=name)(features, deterministic)
        return predictions
