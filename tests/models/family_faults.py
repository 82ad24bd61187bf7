"""Faults that RoBERTa, ELECTRA and DistilBERT can have where they differ from BERT, and heads of every family."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from tests.models.faults import Fault, changed, swapped
from tlx.models import distilbert, transformer
from tlx.models.distilbert import DistilBertConfig
from tlx.models.electra import ElectraConfig
from tlx.models.heads import HeadSettings, Readout
from tlx.models.roberta import Roberta, RobertaConfig


def reads(config: type, change: Callable[[HeadSettings], dict[str, Any]]) -> dict[tuple[type, str], Any]:
    """A family whose heads read otherwise than they should."""
    right = config.head_settings  # type: ignore[attr-defined]

    def wrong(self: Any) -> HeadSettings:
        settings = right.fget(self)
        return dataclasses.replace(settings, **change(settings))

    return {(config, "head_settings"): property(wrong)}


def positions(count: Callable[[jax.Array, int], jax.Array]) -> dict[tuple[type, str], Any]:
    """RoBERTa's positions counted otherwise. count: of where there is text, and the padding token's number."""
    return {
        (Roberta, "positions"): lambda self, ids: count((ids != self.config.pad_token_id) * 1, self.config.pad_token_id)
    }


def of(readout: Readout | None, **changes: Any) -> Readout:
    assert readout is not None
    return dataclasses.replace(readout, **changes)


class DropsAttention(distilbert.Block):
    """As BERT does: attention's output is dropped before it is added."""

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array | None, deterministic: bool) -> tuple[jax.Array, jax.Array]:
        mixed, weights = distilbert.SelfAttention(self.config, self.dtype, name="attention")(x, mask, deterministic)
        mixed = distilbert.Dropout(self.config.dropout)(mixed, deterministic)
        x = distilbert.layer_norm("sa_layer_norm", self.dtype, distilbert.EPSILON)(mixed + x)
        wide = distilbert.FeedForward(self.config, self.dtype, name="ffn")(x, deterministic)
        return distilbert.layer_norm("output_layer_norm", self.dtype, distilbert.EPSILON)(wide + x), weights


class NoResidual(distilbert.Block):
    """The feed-forward network's input is not added."""

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array | None, deterministic: bool) -> tuple[jax.Array, jax.Array]:
        mixed, weights = distilbert.SelfAttention(self.config, self.dtype, name="attention")(x, mask, deterministic)
        x = distilbert.layer_norm("sa_layer_norm", self.dtype, distilbert.EPSILON)(mixed + x)
        wide = distilbert.FeedForward(self.config, self.dtype, name="ffn")(x, deterministic)
        return distilbert.layer_norm("output_layer_norm", self.dtype, distilbert.EPSILON)(wide), weights


RIGHT_EMBEDDINGS = transformer.TextEmbeddings

FAMILY_FAULTS = {
    "first and last of the answer swapped": Fault(
        "bert/question_answering", params=changed("output/kernel", lambda kernel: kernel[:, ::-1])
    ),
    "roberta: padding is counted": Fault(
        "roberta/plain", methods=positions(lambda text, pad: jnp.arange(text.shape[1])[None] + pad + 1)
    ),
    "roberta: positions from 0": Fault(
        "roberta/plain", methods=positions(lambda text, pad: jnp.cumsum(text, axis=1) * text)
    ),
    "roberta: positions from pad": Fault(
        "roberta/plain", methods=positions(lambda text, pad: jnp.cumsum(text, axis=1) * text + pad - text)
    ),
    "roberta: pad is always 1": Fault(
        "roberta/pad_5", methods=positions(lambda text, pad: jnp.cumsum(text, axis=1) * text + 1)
    ),
    "roberta: padding's position learns": Fault(
        "roberta/defaults",
        code={"TextEmbeddings": lambda config, dtype, **_: RIGHT_EMBEDDINGS(config, dtype)},
        gradient=True,
    ),
    "roberta: no tanh in the classifier": Fault(
        "roberta/plain", methods=reads(RobertaConfig, lambda s: {"text": of(s.text, dense="linear")})
    ),
    "roberta: gelu in the classifier": Fault(
        "roberta/plain", methods=reads(RobertaConfig, lambda s: {"text": of(s.text, dense="gelu")})
    ),
    "roberta: one dropout in the classifier": Fault(
        "roberta/dropout", methods=reads(RobertaConfig, lambda s: {"text": of(s.text, drops_first=False)})
    ),
    "roberta: hidden_act before the vocabulary": Fault(
        "roberta/masked_lm", methods=reads(RobertaConfig, lambda s: {"transform_act": "relu"})
    ),
    "roberta: the classifier's rate before a choice": Fault(
        "roberta/dropout_choice", methods=reads(RobertaConfig, lambda s: {"choice": s.token})
    ),
    "roberta: the hidden rate before tags": Fault(
        "roberta/dropout_tokens", methods=reads(RobertaConfig, lambda s: {"token": s.choice})
    ),
    "electra: tanh in the classifier": Fault(
        "electra/plain", methods=reads(ElectraConfig, lambda s: {"text": of(s.text, dense="tanh")})
    ),
    "electra: one dropout in the classifier": Fault(
        "electra/dropout", methods=reads(ElectraConfig, lambda s: {"text": of(s.text, drops_first=False)})
    ),
    "electra: hidden_act before the vocabulary": Fault(
        "electra/masked_lm", methods=reads(ElectraConfig, lambda s: {"transform_act": "relu"})
    ),
    "electra: no activation in the summary": Fault(
        "electra/multiple_choice", methods=reads(ElectraConfig, lambda s: {"choice": of(s.choice, dense="linear")})
    ),
    "electra: the summary's activation is gelu": Fault("electra/summary_tanh", config={"summary_activation": "gelu"}),
    "electra: the summary drops first": Fault(
        "electra/dropout_choice", methods=reads(ElectraConfig, lambda s: {"choice": of(s.choice, drops_first=True)})
    ),
    "electra: the hidden rate before a choice": Fault("electra/dropout_choice", config={"summary_last_dropout": 0.25}),
    "electra: eps of today's default": Fault("electra/eps_1e-3", config={"layer_norm_eps": 1e-12}),
    "electra: no bias in the projection": Fault(
        "electra/plain", params=changed("embeddings_project/bias", jnp.zeros_like)
    ),
    "distilbert: query and key swapped": Fault("distilbert/plain", params=swapped("/q_lin/", "/k_lin/")),
    "distilbert: norms swapped": Fault("distilbert/plain", params=swapped("/sa_layer_norm/", "/output_layer_norm/")),
    "distilbert: no second residual": Fault("distilbert/plain", code={"Block": NoResidual}),
    "distilbert: attention's output dropped": Fault("distilbert/dropout", code={"Block": DropsAttention}),
    "distilbert: no relu in the classifier": Fault(
        "distilbert/plain", methods=reads(DistilBertConfig, lambda s: {"text": of(s.text, dense="linear")})
    ),
    "distilbert: dropout before the classifier's first layer": Fault(
        "distilbert/dropout", methods=reads(DistilBertConfig, lambda s: {"text": of(s.text, drops_first=True)})
    ),
    "distilbert: the classifier's rate before tags": Fault(
        "distilbert/dropout_tokens", methods=reads(DistilBertConfig, lambda s: {"token": of(s.token, dropout=0.15)})
    ),
    "distilbert: no dropout before answers": Fault("distilbert/dropout_answers", config={"qa_dropout": 0.0}),
    "distilbert: answers' rate before a choice": Fault(
        "distilbert/dropout_choice", methods=reads(DistilBertConfig, lambda s: {"choice": of(s.choice, dropout=0.3)})
    ),
    "distilbert: another eps": Fault("distilbert/plain", code={"EPSILON": 1e-5}),
    "distilbert: gelu before the vocabulary": Fault(
        "distilbert/masked_lm", methods=reads(DistilBertConfig, lambda s: {"transform_act": "gelu"})
    ),
}
