"""Heads: the modules that compute predictions from a backbone's output, each under its name."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from tlx.errors import TlxError, listed
from tlx.models.activations import ACTIVATIONS
from tlx.models.backbone import first_tokens
from tlx.models.layers import Dropout, Dtype, dense, layer_norm

PER_TEXT = ("classification", "multilabel", "regression")
PER_TOKEN = ("tagging", "masked_lm", "question_answering")
KINDS = (*PER_TEXT, *PER_TOKEN, "multiple_choice")
OUTPUTS = {"question_answering": 2, "multiple_choice": 1}  # kinds whose number of outputs is fixed
POOLINGS = ("pooler", "cls", "mean", "distilled")


@dataclasses.dataclass(frozen=True)
class Head:
    """The specification of one head.

    Attributes:
      kind: the task of the head, one of:
        `classification`: logits over `outputs` classes, exactly one of which is correct;
        `multilabel`: one logit for each of `outputs` labels, any number of which may be correct;
        `regression`: `outputs` real values;
        `tagging`: logits over `outputs` classes for every token;
        `masked_lm`: logits over a vocabulary of `outputs` words for every token;
        `question_answering`: two logits for every token, for the first and the last token of the answer;
        `multiple_choice`: one logit for each of several texts, with inputs of shape (batch, choices, length).
      outputs: the number of outputs; always 2 for `question_answering` and 1 for `multiple_choice`.
      pooling: the vector that represents the whole text or image, one of:
        `pooler`: the one that the family's published classifiers use. For BERT it is the backbone's pooler, for other
          text families a dense layer inside the head applied to the first token, for images the class token;
        `cls`: the last hidden state of the first token;
        `mean`: the mean of the last hidden states over all tokens except padding, or over the patches of an image;
        `distilled`: DeiT's two output layers, one on the class token and one on the distillation token; their
          outputs are averaged.
      labels: the names of the classes, in order; empty if they are unknown.
      shift: a regression returns `scale · (W h + b) + shift`, so that W and b are trained on standardized targets
        while predictions are in the units of the data. One value per output; empty for none.
      scale: see `shift`. On export both are folded into W and b.
      tied: for `masked_lm`, whether the output layer reuses the backbone's word embedding (no copy is stored); if
        False, the head has a kernel for it.
      n_best: for `question_answering`, how many of the best first and of the best last tokens of each window are
        combined to spans.
      max_answer_length: for `question_answering`, the most tokens of an answer.
      null_threshold: for `question_answering`, a question has no answer if the score of none exceeds that of the best
        span by more than this; None: every question has an answer.
    """

    kind: str
    outputs: int
    pooling: str = "pooler"
    labels: tuple[str, ...] = ()
    shift: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    tied: bool = True
    n_best: int = 20
    max_answer_length: int = 30
    null_threshold: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise TlxError(f"head kind is {self.kind!r}; tlx has {listed(KINDS)}.")
        if self.pooling not in POOLINGS:
            raise TlxError(f"head pooling is {self.pooling!r}; tlx has {listed(POOLINGS)}.")
        if self.outputs < 1:
            raise TlxError(f"a head needs at least one output, found {self.outputs}.")
        if self.outputs != OUTPUTS.get(self.kind, self.outputs):
            raise TlxError(f"a {self.kind} head has {OUTPUTS[self.kind]} outputs, found {self.outputs}.")
        for name, value in (("n_best", self.n_best), ("max_answer_length", self.max_answer_length)):
            if value < 1:
                raise TlxError(f"head {name} is {value}; it is at least 1.")
        for name, count in (("labels", len(self.labels)), ("shift", len(self.shift)), ("scale", len(self.scale))):
            if count not in (0, self.outputs):
                raise TlxError(f"a head with {self.outputs} outputs has {count} {name}.")


@dataclasses.dataclass(frozen=True)
class Readout:
    """The layers of a head before its output layer.

    Attributes:
      dropout: the dropout rate before the output layer.
      dense: the activation of an additional dense layer inside the head; None if there is no such layer.
      drops_first: whether dropout is also applied before the dense layer.
    """

    dropout: float = 0.0
    dense: str | None = None
    drops_first: bool = False


@dataclasses.dataclass(frozen=True)
class HeadSettings:
    """The settings of heads that the backbone's config determines.

    Attributes:
      kinds: the kinds of head that the family supports.
      distilled: whether the second token is a distillation token.
      text: the readout of heads that classify whole texts (or images).
      token: the readout of `tagging` heads.
      span: the readout of `question_answering` heads.
      choice: the readout of `multiple_choice` heads; None if the config asks for a form that tlx does not implement.
      pooled_by: what `pooling="pooler"` means for a head without a dense layer inside it: `pooler` or `cls`.
      transform_size: the width of the layer before the vocabulary of a masked language model.
      transform_act: the activation of that layer.
      layer_norm_eps: the epsilon of that layer's layer norm.
      initializer_range: the standard deviation of initial kernels.
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
        """Returns the readout of heads of this kind."""
        readouts = {"tagging": self.token, "question_answering": self.span, "multiple_choice": self.choice}
        readout = readouts.get(kind, self.text)
        if readout is None:
            raise TlxError(
                f"this checkpoint's config asks for a form of {kind} head that tlx does not implement (summary_type)."
            )
        return readout


@struct.dataclass
class HeadInputs:
    """The inputs of the heads.

    Attributes:
      last_hidden_state: (batch, length, hidden).
      pooler_output: (batch, hidden), or of packed texts (batch · texts, hidden); None without a pooler.
      attention_mask: (batch, length), nonzero for tokens that are not padding; None if there is no padding.
      word_embeddings: (vocabulary, hidden); None if no head uses them.
      segment_ids: (batch, length), the number of the text of each token in its row from 1, 0 for padding; None if texts
        are not packed.
      text_starts: integers (batch, texts), where each text begins in its row; None if texts are not packed.
      read_at: integers (batch, tokens), the only tokens for which `masked_lm` heads predict; None: all.
    """

    last_hidden_state: jax.Array
    pooler_output: jax.Array | None
    attention_mask: jax.Array | None
    word_embeddings: jax.Array | None
    segment_ids: jax.Array | None = None
    text_starts: jax.Array | None = None
    read_at: jax.Array | None = None


def pool(pooling: str, features: HeadInputs) -> jax.Array:
    """Returns the vector (batch, hidden) that represents each text or image; `pooling` is as in `Head`.

    Of packed texts it returns (batch · texts, hidden), also for places in a row without a text.
    """
    hidden, mask = features.last_hidden_state, features.attention_mask
    if pooling == "cls":
        return hidden[:, 0] if features.text_starts is None else first_tokens(hidden, features.text_starts)[:, 0]
    if pooling == "mean" and features.text_starts is not None:
        assert features.segment_ids is not None
        number = jnp.arange(1, features.text_starts.shape[1] + 1)
        weight = (features.segment_ids[:, None, :] == number[:, None]).astype(hidden.dtype)
        means = jnp.einsum("btl,blh->bth", weight, hidden) / jnp.maximum(weight.sum(axis=2, keepdims=True), 1)
        return means.reshape(-1, hidden.shape[-1])
    if pooling == "mean":
        weight = jnp.ones(hidden.shape[:2], hidden.dtype) if mask is None else (mask != 0).astype(hidden.dtype)
        return jnp.einsum("bl,blh->bh", weight, hidden) / jnp.maximum(weight.sum(axis=1, keepdims=True), 1)
    if features.pooler_output is None:
        raise TlxError("the head uses the pooler, but this backbone has none; set pooling='cls'.")
    return features.pooler_output


def read_vector(head: Head, settings: HeadSettings, features: HeadInputs) -> jax.Array:
    """Returns the vector (batch, hidden) on which the layers of a head of whole texts or images begin."""
    if head.pooling != "pooler":
        return pool(head.pooling, features)
    return pool("cls" if settings.readout(head.kind).dense is not None else settings.pooled_by, features)


class OutputHead(nn.Module):
    """Dropout and a dense output layer, on the pooled vector or on every token.

    Some families have another dense layer before it (`Readout.dense`).
    """

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
            x = read_vector(head, s, features)
            x = Dropout(readout.dropout if readout.drops_first else 0.0)(x, deterministic)
            x = ACTIVATIONS[readout.dense](dense(x.shape[-1], "dense", self.dtype, s.initializer_range)(x))
        elif head.pooling == "distilled":
            x = features.last_hidden_state[:, :2]
        else:
            x = read_vector(head, s, features)
        x = Dropout(readout.dropout)(x, deterministic)
        if head.pooling == "distilled":
            output, teacher = (
                dense(head.outputs, name, self.dtype, s.initializer_range) for name in ("output", "teacher")
            )
            x = (output(x[:, 0]) + teacher(x[:, 1])) / 2
        else:
            x = dense(head.outputs, "output", self.dtype, s.initializer_range)(x)
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        if head.scale:
            x = x * jnp.asarray(head.scale, x.dtype)
        return x + jnp.asarray(head.shift, x.dtype) if head.shift else x


class Transform(nn.Module):
    """LayerNorm(act(W x + b)), the layer before the vocabulary of a masked language model."""

    settings: HeadSettings
    dtype: Dtype = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        s = self.settings
        x = ACTIVATIONS[s.transform_act](dense(s.transform_size, "dense", self.dtype, s.initializer_range)(x))
        return layer_norm("LayerNorm", self.dtype, s.layer_norm_eps)(x)


class Decoder(nn.Module):
    """An output layer that is not tied to the word embeddings; its bias is a parameter of the head."""

    outputs: int
    initializer_range: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        normal = nn.initializers.normal(self.initializer_range)
        return x @ self.param("kernel", normal, (x.shape[-1], self.outputs), jnp.float32).astype(x.dtype)


class MaskedLMHead(nn.Module):
    """Masked language modeling (Devlin et al. 2019, 3.1): logits over the vocabulary for every token, or those read.

    The output layer is the transposed word embedding, or a separate kernel if `head.tied` is False, plus a bias.
    """

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
                f"a masked_lm head has one output for every word: expected {table.shape[0]}, found {self.head.outputs}."
            )
        x = features.last_hidden_state
        if features.read_at is not None:
            x = jnp.take_along_axis(x, features.read_at[..., None], axis=1)
        x = Transform(self.settings, self.dtype, name="transform")(x)
        bias = self.param("bias", nn.initializers.zeros, (self.head.outputs,), jnp.float32)
        if self.head.tied:
            x = x @ table.T.astype(x.dtype)
        else:
            x = Decoder(self.head.outputs, self.settings.initializer_range, name="decoder")(x)
        x = x + bias.astype(x.dtype)
        return x.astype(jnp.promote_types(x.dtype, jnp.float32))


class Heads(nn.Module):
    """All heads, each under its name; returns the logits by head name."""

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
